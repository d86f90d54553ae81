/* Runs a network from C: lists its inputs and outputs, fills every input with zeros and prints the
 * largest element of each output.
 *   classify NETWORK.plk [BATCH]     dimensions that vary are BATCH (1) where they come first, else 64 */
#include <packlight/packlight.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_INPUTS = 16, MOST_DIMENSIONS = 8 };

static int failed(void) {
  const char* why = packlight_last_error();
  fprintf(stderr, "error: %s\n", why[0] != 0 ? why : "an input of this type or shape, or of so many bytes, cannot be made up");
  return 1;
}

static void print_tensor(const char* side, const packlight_tensor* tensor) {
  printf("%s %s: type %d, [", side, tensor->name, (int)tensor->type);
  for (size_t d = 0; d < tensor->rank; ++d) printf("%s%lld", d ? ", " : "", (long long)tensor->shape[d]);
  printf("]\n");
}

/* Zeros in the shape that the input has. The caller frees them. */
static void* set_zeros(packlight_network* network, size_t index, int64_t batch) {
  static const size_t element[] = {0, 8, 4, 2, 2, 8, 4, 2, 1, 1, 1}; /* bytes, by packlight_type */
  packlight_tensor input;
  int64_t shape[MOST_DIMENSIONS];
  if (packlight_network_input(network, index, &input) != PACKLIGHT_OK) return NULL;
  print_tensor("input", &input);
  if (input.type == PACKLIGHT_TYPE_UNKNOWN || input.shape == NULL || input.rank > MOST_DIMENSIONS) return NULL;
  size_t size = element[input.type];
  for (size_t d = 0; d < input.rank; ++d) {
    shape[d] = input.shape[d] >= 0 ? input.shape[d] : d == 0 ? batch : 64;
    size *= (size_t)shape[d];
  }
  void* zeros = calloc(size > 0 ? size : 1, 1);
  if (zeros != NULL && packlight_network_set_input(network, index, input.type, input.rank, shape, zeros, size) != PACKLIGHT_OK) {
    free(zeros);
    return NULL;
  }
  return zeros;
}

static void print_largest(const packlight_tensor* output) {
  const float* values = (const float*)output->data;
  const size_t count = output->size_bytes / sizeof(float);
  size_t largest = 0;
  if (output->type != PACKLIGHT_F32 || count == 0) return;
  for (size_t i = 1; i < count; ++i) {
    if (values[i] > values[largest]) largest = i;
  }
  printf("  largest: element %zu, %g\n", largest, values[largest]);
}

int main(int argc, char** argv) {
  packlight_network* network = NULL;
  void* zeros[MOST_INPUTS] = {0};
  int status = 0;
  if (argc < 2 || argc > 3) {
    fprintf(stderr, "usage: classify NETWORK.plk [BATCH]\n");
    return 2;
  }
  const int64_t batch = argc > 2 ? atoll(argv[2]) : 1;
  if (batch < 1) {
    fprintf(stderr, "error: BATCH is '%s', a number from 1 on is wanted\n", argv[2]);
    return 2;
  }
  if (packlight_network_open(argv[1], 0, &network) != PACKLIGHT_OK) return failed();
  const size_t inputs = packlight_network_input_count(network);
  for (size_t i = 0; i < inputs && i < MOST_INPUTS && status == 0; ++i) {
    zeros[i] = set_zeros(network, i, batch);
    if (zeros[i] == NULL) status = failed();
  }
  if (status == 0 && packlight_network_run(network) != PACKLIGHT_OK) status = failed();
  for (size_t i = 0; status == 0 && i < packlight_network_output_count(network); ++i) {
    packlight_tensor output;
    if (packlight_network_output(network, i, &output) != PACKLIGHT_OK) {
      status = failed();
    } else {
      print_tensor("output", &output);
      print_largest(&output);
    }
  }
  if (status == 0) printf("memory plan: %llu bytes\n", (unsigned long long)packlight_network_arena_bytes(network));
  packlight_network_close(network);
  for (size_t i = 0; i < MOST_INPUTS; ++i) free(zeros[i]);
  return status;
}

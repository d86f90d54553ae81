/* Answers a question with a language model, from C:
 *   generate MODEL.plk "What is a quark?" */
#include <packlight/packlight.h>
#include <stdio.h>

static int print_text(const char* text, size_t size, void* user) {
  (void)user;
  fwrite(text, 1, size, stdout);
  return fflush(stdout) == 0; /* 0 ends the generation */
}

int main(int argc, char** argv) {
  packlight_language_model* model = NULL;
  packlight_request request;
  packlight_generation result;
  packlight_status status;
  if (argc != 3) {
    fprintf(stderr, "usage: generate MODEL.plk QUESTION\n");
    return 2;
  }
  const packlight_message question = {"user", argv[2]};
  packlight_request_init(&request);
  request.messages = &question;
  request.message_count = 1;
  request.max_tokens = 64;
  status = packlight_language_model_open(argv[1], NULL, &model);
  if (status == PACKLIGHT_OK) status = packlight_language_model_generate(model, &request, print_text, NULL, &result);
  packlight_language_model_close(model);
  if (status != PACKLIGHT_OK) {
    fprintf(stderr, "error: %s\n", packlight_last_error());
    return 1;
  }
  printf("\n[%lld tokens]\n", (long long)result.generated_tokens);
  return 0;
}

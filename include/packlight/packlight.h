/* Packlight from C: runs the packages (.plk) of language models and of networks on this device.
 *
 *   packlight_network* network = NULL;
 *   if (packlight_network_open("network.plk", 2, &network) != PACKLIGHT_OK)
 *     fprintf(stderr, "%s\n", packlight_last_error());
 *
 * Errors: a function that can fail returns a packlight_status, and packlight_last_error() says why;
 * what it would have written to its results is then unchanged. No C++ exception leaves this
 * interface, and no function ends the program.
 * Threads: a handle serves one thread at a time, except packlight_language_model_cancel(); different
 * handles are independent. Handles of one file share its mapped pages.
 * Texts are UTF-8 and end with a zero byte unless a size stands beside them. Sizes are in bytes. */
#ifndef PACKLIGHT_PACKLIGHT_H_
#define PACKLIGHT_PACKLIGHT_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum packlight_status {
  PACKLIGHT_OK = 0,
  PACKLIGHT_INVALID_ARGUMENT = 1, /* the caller asked for something that cannot be */
  PACKLIGHT_NOT_FOUND = 2,        /* a file or name does not exist */
  PACKLIGHT_CORRUPT = 3,          /* a file's bytes contradict its format */
  PACKLIGHT_UNSUPPORTED = 4,      /* well-formed, but nothing here handles it */
  PACKLIGHT_IO = 5,               /* the operating system refused a read or write */
  PACKLIGHT_OUT_OF_MEMORY = 6,
  PACKLIGHT_INTERNAL = 7,   /* a bug in Packlight */
  PACKLIGHT_INTERRUPTED = 8 /* the user asked to stop */
} packlight_status;

/* What the last call that failed on this thread has to say: one line. Valid until the next failure
 * on this thread; empty before the first. */
const char* packlight_last_error(void);

/* ---- Language models ---- */

typedef struct packlight_language_model packlight_language_model;

typedef struct packlight_language_model_options {
  int threads;       /* 0: one per processor */
  int64_t context;   /* positions; 0: the model's own, at most 2048 */
  int int8_kv_cache; /* not 0: keys and values take a byte an element instead of two */
} packlight_language_model_options;

/* Maps a package. `options` may be NULL: every field 0. The handle in *model is the caller's, until
 * packlight_language_model_close(). */
packlight_status packlight_language_model_open(const char* path,
                                               const packlight_language_model_options* options,
                                               packlight_language_model** model);
/* NULL is allowed. No call on the model may be running. */
void packlight_language_model_close(packlight_language_model* model);

typedef struct packlight_message {
  const char* role; /* "system", "user", "assistant" */
  const char* content;
} packlight_message;

/* What to write. packlight_request_init() fills in the defaults. Everything it points to must stay
 * alive during packlight_language_model_generate() only. */
typedef struct packlight_request {
  const char* prompt;                /* continued as it is; or NULL, and: */
  const packlight_message* messages; /* a conversation, in the model's own chat format */
  size_t message_count;
  int64_t max_tokens; /* -1: until the model ends or the context is full (default) */
  float temperature;  /* 0: always the most probable token (default) */
  int top_k;          /* 0: all (default) */
  float top_p;        /* 1: all (default) */
  float min_p;        /* 0: all (default) */
  float repeat_penalty; /* 1: none (default) */
  uint64_t seed;
} packlight_request;
void packlight_request_init(packlight_request* request);

typedef enum packlight_end_reason {
  PACKLIGHT_END_TOKEN = 0,    /* the model ended its answer */
  PACKLIGHT_END_STOP_TEXT = 1,
  PACKLIGHT_END_MAX_TOKENS = 2,
  PACKLIGHT_END_CONTEXT_FULL = 3, /* no position is left for another token */
  PACKLIGHT_END_CANCELLED = 4     /* by the callback or packlight_language_model_cancel() */
} packlight_end_reason;

typedef struct packlight_generation {
  packlight_end_reason end;
  int64_t prompt_tokens, reused_tokens; /* of the prompt; of these, found in the cache */
  int64_t generated_tokens;
  double prefill_seconds, decode_seconds;
} packlight_generation;

/* Gets a piece of whole characters: `size` bytes, without a zero at the end, valid during the call.
 * Returns 0 to end the generation. It runs on the thread that called generate. */
typedef int (*packlight_text_callback)(const char* text, size_t size, void* user);

/* Generates. `on_text` may be NULL, and so may `result`. What the prompt shares with the one before
 * is not run again. */
packlight_status packlight_language_model_generate(packlight_language_model* model,
                                                   const packlight_request* request,
                                                   packlight_text_callback on_text, void* user,
                                                   packlight_generation* result);
/* Ends the running generate after its current token. From any thread, or a signal handler. */
void packlight_language_model_cancel(packlight_language_model* model);

/* ---- Networks ---- */

typedef struct packlight_network packlight_network;

/* Elements of a tensor, little endian, row-major: one of the constants. An integer, since the value
 * may come from anywhere. */
typedef int32_t packlight_type;
enum {
  PACKLIGHT_TYPE_UNKNOWN = 0, /* not known before the network runs */
  PACKLIGHT_F64 = 1,
  PACKLIGHT_F32 = 2,
  PACKLIGHT_F16 = 3,
  PACKLIGHT_BF16 = 4,
  PACKLIGHT_I64 = 5,
  PACKLIGHT_I32 = 6,
  PACKLIGHT_I16 = 7,
  PACKLIGHT_I8 = 8,
  PACKLIGHT_U8 = 9,
  PACKLIGHT_BOOL = 10 /* a byte, 0 or 1 */
};

typedef struct packlight_tensor {
  const char* name;
  packlight_type type;
  size_t rank;
  const int64_t* shape; /* `rank` dimensions, outermost first; -1 where one varies; NULL (and rank 0)
                           while not even the rank is known */
  const void* data;     /* of an output that is there: its elements; otherwise NULL */
  size_t size_bytes;    /* of data */
} packlight_tensor;

/* Maps a package. threads 0: one per processor. The handle in *network is the caller's, until
 * packlight_network_close(). */
packlight_status packlight_network_open(const char* path, int threads,
                                        packlight_network** network);
/* NULL is allowed. */
void packlight_network_close(packlight_network* network);

size_t packlight_network_input_count(const packlight_network* network);
size_t packlight_network_output_count(const packlight_network* network);

/* What the network says of an input: a name, and type and shape where it fixes them. The pointers in
 * *input are valid until the network is closed. */
packlight_status packlight_network_input(const packlight_network* network, size_t index,
                                         packlight_tensor* input);

/* Sets an input for the runs that follow. `data` is not copied: it must stay alive, aligned for its
 * type, until the last of these runs has ended or the input is set again; the caller may change its
 * elements between runs. What an output's data points to is written over by the next run, so it is
 * no input before it is copied. `shape` is copied. size_bytes must be what type and shape need. Errors:
 * PACKLIGHT_INVALID_ARGUMENT; whether the network takes such a shape is seen by run. */
packlight_status packlight_network_set_input(packlight_network* network, size_t index,
                                             packlight_type type, size_t rank,
                                             const int64_t* shape, const void* data,
                                             size_t size_bytes);

/* Runs on the inputs that are set. The first run with new shapes plans memory for them. Errors:
 * PACKLIGHT_INVALID_ARGUMENT when an input is not set and has no value of its own, or does not fit;
 * the outputs of earlier runs are then gone. */
packlight_status packlight_network_run(packlight_network* network);

/* An output. After a run: type, shape and elements, a view valid until the next run, set_input or
 * close; one that is an input in another shape lies in the caller's buffer and changes with it.
 * Before the first: what the network says of it, and data is NULL. */
packlight_status packlight_network_output(const packlight_network* network, size_t index,
                                          packlight_tensor* output);

/* Bytes of the memory that values take besides constants, inputs and those of sizes that only a run
 * tells; 0 before the first run. */
uint64_t packlight_network_arena_bytes(const packlight_network* network);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* PACKLIGHT_PACKLIGHT_H_ */

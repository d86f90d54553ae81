// Prints the ids llama.cpp gives a text: tokenizer_llama_ids MODEL.gguf TEXT PARSE_SPECIAL
// Compiled by tokenizer_llama_golden.py against the prebuilt libraries that scripts/setup --tests fetches.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "llama.h"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  llama_model* model = llama_model_load_from_file(argv[1], params);
  if (model == nullptr) return 1;
  std::ifstream file(argv[2], std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<llama_token> ids(text.size() + 16);
  const int count = llama_tokenize(llama_model_get_vocab(model), text.data(), text.size(), ids.data(), ids.size(),
                                   /*add_special=*/true, /*parse_special=*/std::atoi(argv[3]) != 0);
  for (int i = 0; i < count; ++i) std::printf("%d\n", ids[i]);
  return count < 0 ? 1 : 0;
}

#pragma once

#include <filesystem>
#include <string>

#include "import/import.h"

namespace packlight::deploy {

// Writes a model as GGUF for llama.cpp, tensor by tensor. Nothing is rounded:
//   dense F32, F16, BF16 and GGML blocks: the same bytes; vectors: F32
//   symmetric INT4 -> Q4_0, symmetric INT8 -> Q8_0, asymmetric INT4 -> Q4_1, F16 tiles -> F16
// Rows of Q and K (weights and biases) go to GGUF's rotary order for architecture llama. Llama 3 frequency scaling becomes
// rope_freqs.weight. A vocabulary shorter than the embedding is filled with unused tokens, as llama.cpp's converter does.
// Which weights are pruned is recorded under a key of ours (import/pruning_record.h).
// Errors: Unsupported where GGUF cannot hold the model without loss (names tensor, group and the setting that would do), for a model
// without tokenizer; Io. An earlier file is replaced only by a complete one.
void write_gguf_model(const import::LanguageModel& model, const std::filesystem::path& path);

}  // namespace packlight::deploy

#pragma once

#include <cstdint>
#include <filesystem>

#include "import/import.h"

namespace packlight::deploy {

struct HfOptions {
  uint64_t shard_bytes = uint64_t{5} << 30;  // a larger model is split; one tensor is never
};

// Writes a model as a Hugging Face folder: config.json, generation_config.json, the tokenizer's files when the model has one, and
// model.safetensors or shards with their index.
//   dense F32, F16, BF16: the same bytes; GGML blocks: dequantized to F32 exactly
//   packed matrices of linear modules: compressed-tensors form (compressed_tensors.h); those of an embedding, or of a head
//   tied to it: dequantized to F32 exactly, since that format knows linear modules only
//   F16 tiles: F16
// Which weights are pruned is recorded in config.json (import/pruning_record.h). Rows of Q and K come in the usual order. Memory: one tensor.
// Errors: Unsupported where config.json cannot hold the architecture; InvalidArgument for a folder that holds other things; Io.
// What was there before is replaced only by a complete folder.
void write_hf_folder(const import::LanguageModel& model, const std::filesystem::path& path, const HfOptions& options = {});

}  // namespace packlight::deploy

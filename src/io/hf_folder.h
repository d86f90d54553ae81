#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "base/json.h"
#include "io/tensor_record.h"

namespace packlight::io {

// A Hugging Face model folder: config.json, model.safetensors or model.safetensors.index.json with
// its shards, and the tokenizer files when they are there.
struct HfFolder {
  std::filesystem::path path;
  Json config;
  std::optional<Json> generation_config;
  std::filesystem::path tokenizer_json, tokenizer_config;  // empty when absent
  std::vector<TensorRecord> tensors;                       // of all shards
  const TensorRecord* find(std::string_view name) const;
};

// Errors: as read_safetensors; Corrupt for a tensor in the index that its shard lacks, a shard that
// is missing.
HfFolder read_hf_folder(const std::filesystem::path& path);

// What a path holds, from its bytes and not its name. Errors: NotFound; Unsupported when it is none
// of these.
enum class ModelKind { kGguf, kHfFolder, kPackage, kNetworkPackage, kOnnx };
ModelKind detect_model_kind(const std::filesystem::path& path);
const char* model_kind_name(ModelKind kind);
// A network (ONNX, or a package of one), not a language model.
inline bool is_network(ModelKind kind) {
  return kind == ModelKind::kNetworkPackage || kind == ModelKind::kOnnx;
}

}  // namespace packlight::io

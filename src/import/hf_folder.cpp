#include <ATen/ATen.h>

#include <unordered_map>

#include "base/fail.h"
#include "import/sources.h"

namespace packlight::import {
namespace {

// Buffers that older checkpoints carry along and that the config fixes anyway.
bool is_derived(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

}  // namespace

LanguageModel load_hf_folder(const std::filesystem::path& path) {
  const io::HfFolder folder = io::read_hf_folder(path);
  const std::string origin = (path / "config.json").string();
  const Json* generation = folder.generation_config ? &*folder.generation_config : nullptr;
  LanguageModel model{io::ModelKind::kHfFolder,
                      path,
                      io::decoder_config_from_hf(folder.config, generation, origin),
                      {},
                      std::nullopt};
  std::unordered_map<std::string, const io::TensorRecord*> records;
  for (const io::TensorRecord& record : folder.tensors) {
    if (!is_derived(record.name)) records[record.name] = &record;
  }
  const auto take = [&](const io::TensorSpec& spec) {
    const auto it = records.find(spec.name);
    if (it == records.end()) {
      fail(ErrorCode::kCorrupt, "[import] '{}': tensor '{}' is missing", path.string(), spec.name);
    }
    const io::TensorRecord& record = *it->second;
    records.erase(it);
    return as_weight(record);
  };
  model.graph = build_decoder_graph(model.config, take);
  if (!records.empty()) {
    fail(ErrorCode::kUnsupported,
         "[import] '{}': tensor '{}' is used by no rule of model type '{}'", path.string(),
         records.begin()->first, model.config.family);
  }
  if (!folder.tokenizer_json.empty()) {
    model.tokenizer = text::Tokenizer::from_hf(folder.tokenizer_json, folder.tokenizer_config);
  }
  return model;
}

}  // namespace packlight::import

#include <ATen/ATen.h>

#include <cstring>
#include <unordered_map>

#include "base/fail.h"
#include "import/pruning_record.h"
#include "import/sources.h"
#include "io/compressed_tensors.h"

namespace packlight::import {
namespace {

// Buffers that older checkpoints carry along and that the config fixes anyway.
bool is_derived(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

// "model.layers.0.mlp.up_proj.weight" -> "model.layers.0.mlp.up_proj"
std::string_view module_name(std::string_view tensor) {
  return tensor.substr(0, tensor.rfind('.'));
}

// The tensors of a folder by name, each to be taken once.
class FolderTensors {
 public:
  explicit FolderTensors(const io::HfFolder& folder) : folder_(folder) {
    for (const io::TensorRecord& record : folder.tensors) {
      if (!is_derived(record.name)) unused_[record.name] = &record;
    }
    if (io::CompressedTensors::present(folder)) compressed_.emplace(folder);
  }

  graph::Weight take(const io::TensorSpec& spec) {
    if (!spec.is_vector && is_compressed(spec.name)) {
      for (const std::string& name : compressed_->tensor_names(module_name(spec.name)))
        unused_.erase(name);
      return compressed_->weight(module_name(spec.name));
    }
    const auto it = unused_.find(spec.name);
    if (it == unused_.end()) {
      fail(ErrorCode::kCorrupt, "[import] '{}': tensor '{}' is missing", folder_.path.string(),
           spec.name);
    }
    const io::TensorRecord& record = *it->second;
    unused_.erase(it);
    return as_weight(folder_.path, record);
  }

  // Some writers store a tied head a second time. Errors: Corrupt when it is not the embedding.
  void drop_tied_head() {
    const auto head = unused_.find("lm_head.weight");
    const io::TensorRecord* embedding = folder_.find("model.embed_tokens.weight");
    if (head == unused_.end() || embedding == nullptr) return;
    const io::TensorRecord& copy = *head->second;
    const bool same =
        copy.dtype == embedding->dtype && copy.shape == embedding->shape &&
        std::memcmp(copy.bytes.data(), embedding->bytes.data(), copy.bytes.size()) == 0;
    if (!same) {
      fail(ErrorCode::kCorrupt,
           "[import] '{}': config.json ties the head to the embedding, but lm_head.weight differs "
           "from "
           "model.embed_tokens.weight",
           folder_.path.string());
    }
    unused_.erase(head);
  }

  bool is_compressed(std::string_view tensor) const {
    return compressed_ && compressed_->contains(module_name(tensor));
  }
  bool int8_activations(std::string_view tensor) const {
    return is_compressed(tensor) && compressed_->int8_activations(module_name(tensor));
  }
  const std::unordered_map<std::string_view, const io::TensorRecord*>& unused() const {
    return unused_;
  }

 private:
  const io::HfFolder& folder_;
  std::unordered_map<std::string_view, const io::TensorRecord*> unused_;
  std::optional<io::CompressedTensors> compressed_;
};

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
  FolderTensors tensors(folder);
  model.graph = build_decoder_graph(model.config,
                                    [&](const io::TensorSpec& spec) { return tensors.take(spec); });
  if (model.config.tied_embeddings) tensors.drop_tied_head();
  if (!tensors.unused().empty()) {
    fail(ErrorCode::kUnsupported,
         "[import] '{}': tensor '{}' is used by no rule of model type '{}'", path.string(),
         tensors.unused().begin()->first, model.config.family);
  }
  mark_int8_inputs(model.graph,
                   [&](std::string_view name) { return tensors.int8_activations(name); });
  if (const auto pruning = folder.config.find(kHfPruningKey); pruning != folder.config.end())
    mark_pruned(model.graph, *pruning, origin);
  if (!folder.tokenizer_json.empty()) {
    model.tokenizer = text::Tokenizer::from_hf(folder.tokenizer_json, folder.tokenizer_config);
  }
  return model;
}

}  // namespace packlight::import

#include <ATen/ATen.h>

#include <charconv>
#include <unordered_map>

#include "base/fail.h"
#include "import/pruning_record.h"
#include "import/sources.h"

namespace packlight::import {
namespace {

// How many heads the rows of a tensor are made of when the file has them in rotary order:
// llama.cpp's converter reorders queries and keys of its architectures "llama" and "deci" only.
int64_t interleaved_heads(std::string_view architecture, const io::DecoderConfig& config,
                          const io::TensorSpec& spec) {
  constexpr std::string_view kLayers = "model.layers.";
  const bool is_reordered = architecture == "llama" || architecture == "deci";
  if (!is_reordered || !spec.block.starts_with(kLayers)) return 0;
  size_t layer = 0;
  std::from_chars(spec.block.data() + kLayers.size(), spec.block.data() + spec.block.size(), layer);
  if (spec.name.find(".self_attn.q_proj.") != std::string::npos) return config.heads[layer];
  if (spec.name.find(".self_attn.k_proj.") != std::string::npos) return config.kv_heads[layer];
  return 0;
}

graph::Weight gguf_weight(const std::filesystem::path& path, const io::TensorRecord& record,
                          bool is_vector, int64_t heads) {
  if (heads == 0) return as_weight(path, record);
  codec::EncodedTensor encoded = record.encoded();
  encoded.rotary_interleaved_heads = heads;
  if (!is_vector) return encoded;
  // A bias is a matrix of one column as far as the order of its rows goes. One that cannot be so
  // read has another size or type than the config asks for and is refused by its shape or type.
  if (!codec::is_float(encoded.dtype) || encoded.rows != 1 || encoded.cols % heads != 0)
    return as_weight(path, record);
  std::swap(encoded.rows, encoded.cols);
  at::Tensor values = at::empty({encoded.rows}, at::kFloat);
  codec::decode_rows(encoded, 0, encoded.rows, values.data_ptr<float>());
  return values;
}

}  // namespace

LanguageModel load_gguf(const std::filesystem::path& path) {
  const io::GgufFile file = io::read_gguf(path);
  LanguageModel model{
      io::ModelKind::kGguf, path, io::decoder_config_from_gguf(file), {}, std::nullopt};
  const std::string architecture(file.text("general.architecture"));
  std::unordered_map<std::string_view, const io::TensorRecord*> unused;
  for (const io::TensorRecord& record : file.tensors) unused[record.name] = &record;
  unused.erase("rope_freqs.weight");  // part of the config
  const auto take = [&](const io::TensorSpec& spec) {
    const std::string name = io::gguf_tensor_name(spec.name);
    const auto it = unused.find(name);
    if (it == unused.end()) {
      fail(ErrorCode::kCorrupt, "[import] '{}': tensor '{}' ({}) is missing", path.string(), name,
           spec.name);
    }
    const io::TensorRecord& record = *it->second;
    unused.erase(it);
    return gguf_weight(path, record, spec.is_vector,
                       interleaved_heads(architecture, model.config, spec));
  };
  model.graph = build_decoder_graph(model.config, take);
  if (!unused.empty()) {
    fail(ErrorCode::kUnsupported,
         "[import] '{}': tensor '{}' is used by no rule of architecture '{}' as its metadata "
         "describe it",
         path.string(), unused.begin()->first, architecture);
  }
  if (const std::string_view pruning = file.text(kGgufPruningKey, ""); !pruning.empty())
    mark_pruned(model.graph, base::parse_json(pruning, path.string()), path.string());
  if (file.find("tokenizer.ggml.model") != nullptr)
    model.tokenizer = text::Tokenizer::from_gguf(file);
  return model;
}

}  // namespace packlight::import

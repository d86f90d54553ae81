#include <array>
#include <charconv>
#include <unordered_map>

#include <ATen/ATen.h>

#include "base/fail.h"
#include "import/sources.h"

namespace packlight::import {
namespace {

struct NamePair {
  std::string_view gguf, hugging_face;
};
constexpr std::array kGlobalNames = {
    NamePair{"token_embd.weight", "model.embed_tokens.weight"},
    NamePair{"output_norm.weight", "model.norm.weight"},
    NamePair{"output.weight", "lm_head.weight"},
};
constexpr std::array kLayerNames = {
    NamePair{"attn_norm", "input_layernorm"},     NamePair{"attn_q", "self_attn.q_proj"},
    NamePair{"attn_k", "self_attn.k_proj"},       NamePair{"attn_v", "self_attn.v_proj"},
    NamePair{"attn_output", "self_attn.o_proj"},  NamePair{"ffn_norm", "post_attention_layernorm"},
    NamePair{"ffn_gate", "mlp.gate_proj"},        NamePair{"ffn_up", "mlp.up_proj"},
    NamePair{"ffn_down", "mlp.down_proj"},
};

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; empty for a name without a rule.
std::string hugging_face_name(std::string_view name) {
  for (const NamePair& pair : kGlobalNames) {
    if (name == pair.gguf) return std::string(pair.hugging_face);
  }
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return "";
  const size_t layer_end = name.find('.', kBlock.size()), part_end = name.rfind('.');
  if (layer_end == std::string_view::npos || part_end <= layer_end) return "";
  const std::string_view layer = name.substr(kBlock.size(), layer_end - kBlock.size());
  const std::string_view module = name.substr(layer_end + 1, part_end - layer_end - 1);
  for (const NamePair& pair : kLayerNames) {
    if (module == pair.gguf) return fmt::format("model.layers.{}.{}{}", layer, pair.hugging_face, name.substr(part_end));
  }
  return "";
}

// How many heads the rows of a tensor are made of when the file has them in rotary order: llama.cpp's converter
// reorders queries and keys of its architecture "llama" only.
int64_t interleaved_heads(std::string_view architecture, const io::DecoderConfig& config, std::string_view name) {
  constexpr std::string_view kLayers = "model.layers.";
  if (architecture != "llama" || !name.starts_with(kLayers)) return 0;
  size_t layer = 0;
  std::from_chars(name.data() + kLayers.size(), name.data() + name.size(), layer);
  if (layer >= config.heads.size()) return 0;
  if (name.find(".self_attn.q_proj.") != std::string_view::npos) return config.heads[layer];
  if (name.find(".self_attn.k_proj.") != std::string_view::npos) return config.kv_heads[layer];
  return 0;
}

graph::Weight gguf_weight(const io::TensorRecord& record, bool is_vector, int64_t heads) {
  if (heads == 0 || record.shape.empty()) return as_weight(record);
  codec::EncodedTensor encoded = record.encoded();
  encoded.rotary_interleaved_heads = heads;
  if (!is_vector) return encoded;
  // A bias is a matrix of one column as far as the order of its rows goes.
  encoded.rows = record.elements();
  encoded.cols = 1;
  if (!codec::is_float(encoded.dtype) || encoded.rows % heads != 0) return as_weight(record);  // refused by the builder
  at::Tensor values = at::empty({encoded.rows}, at::kFloat);
  codec::decode_rows(encoded, 0, encoded.rows, values.data_ptr<float>());
  return values;
}

}  // namespace

LanguageModel load_gguf(const std::filesystem::path& path) {
  const io::GgufFile file = io::read_gguf(path);
  LanguageModel model{io::ModelKind::kGguf, path, io::decoder_config_from_gguf(file), {}, std::nullopt};
  const std::string architecture(file.text("general.architecture"));
  std::unordered_map<std::string, const io::TensorRecord*> records;
  for (const io::TensorRecord& record : file.tensors) {
    if (record.name == "rope_freqs.weight") continue;  // part of the config
    const std::string name = hugging_face_name(record.name);
    if (name.empty()) {
      fail(ErrorCode::kUnsupported, "[import] '{}': tensor '{}' is used by no rule of architecture '{}'", path.string(),
           record.name, architecture);
    }
    records[name] = &record;
  }
  const auto take = [&](const io::TensorSpec& spec) {
    const auto it = records.find(spec.name);
    if (it == records.end()) {
      fail(ErrorCode::kCorrupt, "[import] '{}': the tensor for '{}' is missing", path.string(), spec.name);
    }
    const io::TensorRecord& record = *it->second;
    records.erase(it);
    return gguf_weight(record, spec.is_vector, interleaved_heads(architecture, model.config, spec.name));
  };
  model.graph = build_decoder_graph(model.config, take);
  if (!records.empty()) {
    fail(ErrorCode::kUnsupported, "[import] '{}': tensor '{}' is used by no rule of architecture '{}' as its metadata describe it",
         path.string(), records.begin()->second->name, architecture);
  }
  if (file.find("tokenizer.ggml.model") != nullptr) model.tokenizer = text::Tokenizer::from_gguf(file);
  return model;
}

}  // namespace packlight::import

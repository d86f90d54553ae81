#include <array>

#include "base/fail.h"
#include "io/package.h"

namespace packlight::io {
namespace {

constexpr std::string_view kLayerPrefix = "model.layers.";

struct NamePair {
  std::string_view name, gguf;
};
// Inside a layer; the suffix ".weight" or ".bias" is the same in both.
constexpr std::array<NamePair, 9> kLayerNames = {{{"input_layernorm", "attn_norm"},
                                                  {"self_attn.q_proj", "attn_q"},
                                                  {"self_attn.k_proj", "attn_k"},
                                                  {"self_attn.v_proj", "attn_v"},
                                                  {"self_attn.o_proj", "attn_output"},
                                                  {"post_attention_layernorm", "ffn_norm"},
                                                  {"mlp.gate_proj", "ffn_gate"},
                                                  {"mlp.up_proj", "ffn_up"},
                                                  {"mlp.down_proj", "ffn_down"}}};
constexpr std::array<NamePair, 3> kOuterNames = {
    {{"model.embed_tokens.weight", "token_embd.weight"},
     {"model.norm.weight", "output_norm.weight"},
     {"lm_head.weight", "output.weight"}}};

void add_layer(const DecoderConfig& c, int64_t layer, std::vector<TensorSpec>& specs) {
  const std::string block = fmt::format("{}{}", kLayerPrefix, layer);
  const int64_t q = c.heads[layer] * c.head_dim, kv = c.kv_heads[layer] * c.head_dim,
                ffn = c.ffn_size[layer];
  const auto add = [&](std::string_view name, int64_t rows, int64_t cols) {
    specs.push_back({fmt::format("{}.{}.weight", block, name), block, rows, cols, false});
  };
  const auto add_vector = [&](std::string_view name, int64_t size) {
    specs.push_back({fmt::format("{}.{}", block, name), block, 1, size, true});
  };
  add_vector("input_layernorm.weight", c.hidden_size);
  for (const auto& [name, rows] : {std::pair("q", q), std::pair("k", kv), std::pair("v", kv)}) {
    add(fmt::format("self_attn.{}_proj", name), rows, c.hidden_size);
    if (c.qkv_bias) add_vector(fmt::format("self_attn.{}_proj.bias", name), rows);
  }
  add("self_attn.o_proj", c.hidden_size, q);
  add_vector("post_attention_layernorm.weight", c.hidden_size);
  add("mlp.gate_proj", ffn, c.hidden_size);
  add("mlp.up_proj", ffn, c.hidden_size);
  add("mlp.down_proj", c.hidden_size, ffn);
}

}  // namespace

std::vector<TensorSpec> decoder_tensors(const DecoderConfig& config) {
  std::vector<TensorSpec> specs;
  specs.push_back(
      {"model.embed_tokens.weight", "embed", config.vocab_size, config.hidden_size, false});
  for (int64_t layer = 0; layer < config.layers(); ++layer) add_layer(config, layer, specs);
  specs.push_back({"model.norm.weight", "head", 1, config.hidden_size, true});
  if (!config.tied_embeddings) {
    specs.push_back({"lm_head.weight", "head", config.vocab_size, config.hidden_size, false});
  }
  return specs;
}

std::string gguf_tensor_name(std::string_view name) {
  for (const NamePair& pair : kOuterNames) {
    if (pair.name == name) return std::string(pair.gguf);
  }
  const size_t dot = name.find('.', kLayerPrefix.size());
  const size_t suffix = name.rfind('.');
  if (name.starts_with(kLayerPrefix) && dot != std::string_view::npos && suffix > dot) {
    const std::string_view layer = name.substr(kLayerPrefix.size(), dot - kLayerPrefix.size());
    const std::string_view inner = name.substr(dot + 1, suffix - dot - 1);
    for (const NamePair& pair : kLayerNames) {
      if (pair.name == inner)
        return fmt::format("blk.{}.{}{}", layer, pair.gguf, name.substr(suffix));
    }
  }
  fail(ErrorCode::kInvalidArgument, "[io] '{}' is no tensor of a decoder", name);
}

}  // namespace packlight::io

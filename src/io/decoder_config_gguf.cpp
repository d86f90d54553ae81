#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/fail.h"
#include "base/json.h"
#include "codec/encoded_tensor.h"
#include "io/decoder_config.h"

namespace packlight::io {
namespace {

// Pieces that end a turn or a document in the vocabularies of the known families, whatever id a
// file names as its end.
constexpr std::array<std::string_view, 10> kEndPieces = {
    "<|im_end|>", "<|endoftext|>", "<|eot_id|>",      "<|eom_id|>", "<|end_of_text|>",
    "<|end|>",    "<end_of_turn>", "<|endofprompt|>", "<EOT>",      "<|return|>"};
constexpr int32_t kControlToken = 3;

// Keys after "<arch>." that change the mathematics in ways the decoder does not have, unless zero
// or absent.
constexpr std::array<std::string_view, 7> kForeignKeys = {"expert_count",
                                                          "attention.scale",
                                                          "logit_scale",
                                                          "residual_scale",
                                                          "embedding_scale",
                                                          "attention.clamp_kqv",
                                                          "attention.max_alibi_bias"};

std::string architecture(const GgufFile& file) {
  std::string arch(file.text("general.architecture"));
  if (arch != "llama" && arch != "deci" && arch != "qwen2") {
    fail(ErrorCode::kUnsupported, "[gguf] '{}': architecture '{}' is not known: llama, deci, qwen2",
         file.path, arch);
  }
  for (const std::string_view key : kForeignKeys) {
    const double value = file.number(fmt::format("{}.{}", arch, key), 0);
    if (value != 0) {
      fail(ErrorCode::kUnsupported, "[gguf] '{}': '{}.{}' {} is not read here", file.path, arch,
           key, value);
    }
  }
  return arch;
}

// One integer for all layers, or an array with one per layer.
std::vector<int64_t> per_layer(const GgufFile& file, const std::string& key, int64_t layers) {
  const GgufValue* value = file.find(key);
  if (value == nullptr)
    fail(ErrorCode::kCorrupt, "[gguf] '{}': key '{}' is missing", file.path, key);
  std::vector<int64_t> list;
  std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::vector<uint32_t>> ||
                      std::is_same_v<T, std::vector<int32_t>> ||
                      std::is_same_v<T, std::vector<int64_t>>) {
          list.assign(v.begin(), v.end());
        } else {
          list.assign(layers, file.integer(key));
        }
      },
      value->value);
  if (static_cast<int64_t>(list.size()) != layers) {
    fail(ErrorCode::kCorrupt, "[gguf] '{}': key '{}' has {} entries for {} layers", file.path, key,
         list.size(), layers);
  }
  return list;
}

void refuse_rope_types(const GgufFile& file, const std::string& arch) {
  const std::string key = arch + ".rope.scaling.type";
  const std::string_view type = file.text(key, "none");
  const double linear =
      file.number(arch + ".rope.scaling.factor", file.number(arch + ".rope.scale_linear", 1));
  const bool harmless =
      type == "none" || type.empty() || (type == "linear" && (linear == 1 || linear == 0));
  if (!harmless || (type == "none" && file.number(arch + ".rope.scale_linear", 1) != 1)) {
    fail(ErrorCode::kUnsupported, "[gguf] '{}': RoPE scaling '{}' with factor {} is not read here",
         file.path, type, linear);
  }
}

void read_rope(const GgufFile& file, const std::string& arch, DecoderConfig& c) {
  c.rope_theta = file.number(arch + ".rope.freq_base", 10000);
  refuse_rope_types(file, arch);
  const int64_t rotated = file.integer(arch + ".rope.dimension_count", c.head_dim);
  if (rotated != c.head_dim) {
    fail(ErrorCode::kUnsupported,
         "[gguf] '{}': RoPE turns {} of {} elements of a head; only whole heads are known",
         file.path, rotated, c.head_dim);
  }
  if (const TensorRecord* factors = file.find_tensor("rope_freqs.weight")) {
    if (!codec::is_float(factors->dtype) || factors->elements() != c.head_dim / 2) {
      fail(ErrorCode::kCorrupt, "[gguf] '{}' tensor 'rope_freqs.weight': not {} floats", file.path,
           c.head_dim / 2);
    }
    c.rope_frequency_factors.resize(c.head_dim / 2);
    codec::EncodedTensor row = factors->encoded();
    row.cols *= std::exchange(row.rows, 1);
    codec::decode_rows(row, 0, 1, c.rope_frequency_factors.data());
  }
}

int64_t head_dim(const GgufFile& file, const std::string& arch, const DecoderConfig& c) {
  const std::string key = arch + ".attention.key_length";
  if (file.find(key) == nullptr && (c.heads.front() < 1 || c.hidden_size % c.heads.front() != 0)) {
    fail(ErrorCode::kCorrupt, "[gguf] '{}': embedding length {} is no multiple of {} heads",
         file.path, c.hidden_size, c.heads.front());
  }
  const int64_t width =
      file.find(key) == nullptr ? c.hidden_size / c.heads.front() : file.integer(key);
  const int64_t value_width = file.integer(arch + ".attention.value_length", width);
  if (value_width != width) {
    fail(ErrorCode::kUnsupported, "[gguf] '{}': key_length {} differs from value_length {}",
         file.path, width, value_width);
  }
  return width;
}

int64_t vocab_size(const GgufFile& file, const std::string& arch) {
  const TensorRecord* embedding = file.find_tensor("token_embd.weight");
  if (embedding != nullptr && embedding->shape.size() == 2) return embedding->shape[0];
  const std::string key = arch + ".vocab_size";
  if (file.find(key) != nullptr) return file.integer(key);
  return static_cast<int64_t>(file.strings("tokenizer.ggml.tokens").size());
}

void read_tokens(const GgufFile& file, DecoderConfig& c) {
  c.bos_token = file.integer("tokenizer.ggml.bos_token_id", -1);
  for (const std::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                     "tokenizer.ggml.eom_token_id"}) {
    if (file.find(key) != nullptr) c.eos_tokens.push_back(file.integer(key));
  }
  const GgufValue* pieces = file.find("tokenizer.ggml.tokens");
  const GgufValue* kinds = file.find("tokenizer.ggml.token_type");
  const auto* texts = pieces ? std::get_if<std::vector<std::string>>(&pieces->value) : nullptr;
  const auto* types = kinds ? std::get_if<std::vector<int32_t>>(&kinds->value) : nullptr;
  for (size_t i = 0; texts && types && i < std::min(texts->size(), types->size()); ++i) {
    const bool ends =
        (*types)[i] == kControlToken &&
        std::find(kEndPieces.begin(), kEndPieces.end(), (*texts)[i]) != kEndPieces.end();
    if (ends) c.eos_tokens.push_back(static_cast<int64_t>(i));
  }
  std::sort(c.eos_tokens.begin(), c.eos_tokens.end());
  c.eos_tokens.erase(std::unique(c.eos_tokens.begin(), c.eos_tokens.end()), c.eos_tokens.end());
}

bool is_uniform(const std::vector<int64_t>& list) {
  return std::adjacent_find(list.begin(), list.end(), std::not_equal_to<>()) == list.end();
}

GgufValue per_layer_value(const std::vector<int64_t>& list) {
  if (is_uniform(list)) return {static_cast<uint32_t>(list.front())};
  return {std::vector<int32_t>(list.begin(), list.end())};
}

}  // namespace

DecoderConfig decoder_config_from_gguf(const GgufFile& file) {
  const std::string arch = architecture(file);
  DecoderConfig c;
  c.family = arch == "deci" ? "llama" : arch;
  c.name = file.text("general.name", "");
  if (!base::is_utf8(c.name)) {
    fail(ErrorCode::kCorrupt, "[gguf] '{}': the text of key 'general.name' is no UTF-8", file.path);
  }
  const int64_t layers = file.integer(arch + ".block_count");
  if (layers < 1 || layers > kMaxLayers) {
    fail(ErrorCode::kCorrupt, "[gguf] '{}': {} layers are not in 1..{}", file.path, layers,
         kMaxLayers);
  }
  c.hidden_size = file.integer(arch + ".embedding_length");
  c.heads = per_layer(file, arch + ".attention.head_count", layers);
  if (c.hidden_size < 1) {
    fail(ErrorCode::kCorrupt, "[gguf] '{}': hidden size {}", file.path, c.hidden_size);
  }
  const std::string kv_key = arch + ".attention.head_count_kv";
  c.kv_heads = file.find(kv_key) == nullptr ? c.heads : per_layer(file, kv_key, layers);
  c.ffn_size = per_layer(file, arch + ".feed_forward_length", layers);
  c.head_dim = head_dim(file, arch, c);
  c.vocab_size = vocab_size(file, arch);
  c.max_positions = file.integer(arch + ".context_length");
  c.rms_epsilon = file.number(arch + ".attention.layer_norm_rms_epsilon");
  c.sliding_window = file.integer(arch + ".attention.sliding_window", 0);
  if (arch == "llama" && c.sliding_window > 0)
    c.family = "mistral";  // the two differ in nothing else
  c.tied_embeddings = file.find_tensor("output.weight") == nullptr;
  c.qkv_bias = file.find_tensor("blk.0.attn_q.bias") != nullptr;
  read_rope(file, arch, c);
  read_tokens(file, c);
  validate(c, file.path);
  return c;
}

std::vector<std::pair<std::string, GgufValue>> decoder_config_to_gguf(const DecoderConfig& c) {
  const bool by_layer = !is_uniform(c.ffn_size) || !is_uniform(c.heads) || !is_uniform(c.kv_heads);
  if (by_layer && (c.family == "qwen2" || c.sliding_window > 0)) {
    fail(ErrorCode::kUnsupported,
         "[gguf] layers differ in size, which llama.cpp reads of architecture deci alone, and that "
         "has no {}",
         c.family == "qwen2" ? "biases of queries, keys and values" : "sliding window");
  }
  // GGUF's "llama" stands for Mistral too.
  const std::string arch = c.family == "qwen2" ? "qwen2" : by_layer ? "deci" : "llama";
  const auto u32 = [](int64_t value) { return GgufValue{static_cast<uint32_t>(value)}; };
  const auto f32 = [](double value) { return GgufValue{static_cast<float>(value)}; };
  std::vector<std::pair<std::string, GgufValue>> keys = {
      {"general.architecture", {arch}},
      {"general.type", {std::string("model")}},
      {"general.name", {c.name.empty() ? c.family : c.name}},
      {arch + ".block_count", u32(c.layers())},
      {arch + ".context_length", u32(c.max_positions)},
      {arch + ".embedding_length", u32(c.hidden_size)},
      {arch + ".feed_forward_length", per_layer_value(c.ffn_size)},
      {arch + ".attention.head_count", per_layer_value(c.heads)},
      {arch + ".attention.head_count_kv", per_layer_value(c.kv_heads)},
      {arch + ".attention.layer_norm_rms_epsilon", f32(c.rms_epsilon)},
      {arch + ".rope.freq_base", f32(c.rope_theta)},
      {arch + ".rope.dimension_count", u32(c.head_dim)},
      {arch + ".vocab_size", u32(c.vocab_size)}};
  const bool implied = std::all_of(c.heads.begin(), c.heads.end(), [&](int64_t heads) {
    return heads * c.head_dim == c.hidden_size;
  });
  if (!implied) {
    keys.emplace_back(arch + ".attention.key_length", u32(c.head_dim));
    keys.emplace_back(arch + ".attention.value_length", u32(c.head_dim));
  }
  if (c.sliding_window > 0)
    keys.emplace_back(arch + ".attention.sliding_window", u32(c.sliding_window));
  return keys;
}

}  // namespace packlight::io

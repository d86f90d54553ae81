#include "io/decoder_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/fail.h"
#include "io/config_fields.h"

namespace packlight::io {
namespace {

// Far above any real model, and low enough that products of three of them fit 63 bits.
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 8192;
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxPositions = int64_t{1} << 31;

void check_range(std::string_view origin, std::string_view what, int64_t value, int64_t least,
                 int64_t most) {
  if (value < least || value > most) {
    fail(ErrorCode::kCorrupt, "[config] '{}': {} {} is not in {}..{}", origin, what, value, least,
         most);
  }
}

void check_positive(std::string_view origin, std::string_view what, double value) {
  if (!(value > 0) || !std::isfinite(value)) {
    fail(ErrorCode::kCorrupt, "[config] '{}': {} {} is not a positive finite number", origin, what,
         value);
  }
}

void check_layers(const DecoderConfig& c, std::string_view origin) {
  check_range(origin, "number of layers", c.layers(), 1, kMaxLayers);
  if (c.kv_heads.size() != c.heads.size() || c.ffn_size.size() != c.heads.size()) {
    fail(ErrorCode::kCorrupt,
         "[config] '{}': per-layer lists of {} heads, {} KV heads, {} FFN sizes differ in length",
         origin, c.heads.size(), c.kv_heads.size(), c.ffn_size.size());
  }
  for (int64_t i = 0; i < c.layers(); ++i) {
    check_range(origin, "number of heads", c.heads[i], 1, kMaxHeads);
    check_range(origin, "number of KV heads", c.kv_heads[i], 1, kMaxHeads);
    check_range(origin, "FFN size", c.ffn_size[i], 1, kMaxWidth);
    if (c.heads[i] % c.kv_heads[i] != 0) {
      fail(ErrorCode::kCorrupt, "[config] '{}': layer {}: {} heads are no multiple of {} KV heads",
           origin, i, c.heads[i], c.kv_heads[i]);
    }
  }
}

void check_rope(const DecoderConfig& c, std::string_view origin) {
  check_positive(origin, "RoPE theta", c.rope_theta);
  if (c.rope_scaling && !c.rope_frequency_factors.empty()) {
    fail(ErrorCode::kCorrupt, "[config] '{}': both RoPE scaling and RoPE frequency factors",
         origin);
  }
  if (c.rope_scaling) {
    const Llama3RopeScaling& s = *c.rope_scaling;
    check_positive(origin, "RoPE scaling factor", s.factor);
    check_positive(origin, "RoPE low_freq_factor", s.low_freq_factor);
    check_positive(origin, "RoPE high_freq_factor", s.high_freq_factor);
    check_range(origin, "RoPE original positions", s.original_max_positions, 1, kMaxPositions);
    if (s.high_freq_factor <= s.low_freq_factor) {
      fail(ErrorCode::kCorrupt,
           "[config] '{}': RoPE high_freq_factor {} is not above low_freq_factor {}", origin,
           s.high_freq_factor, s.low_freq_factor);
    }
  }
  if (!c.rope_frequency_factors.empty() &&
      c.rope_frequency_factors.size() != static_cast<size_t>(c.head_dim / 2)) {
    fail(ErrorCode::kCorrupt, "[config] '{}': {} RoPE frequency factors for a head of {}", origin,
         c.rope_frequency_factors.size(), c.head_dim);
  }
  for (const float factor : c.rope_frequency_factors)
    check_positive(origin, "RoPE frequency factor", factor);
}

// How much Llama 3 scaling divides the frequency of wavelength 2 pi / inverse.
// Source: https://github.com/huggingface/transformers, modeling_rope_utils.py, "llama3".
double llama3_divisor(double inverse, const Llama3RopeScaling& s) {
  const double wavelength = 2 * std::numbers::pi / inverse;
  const double original = static_cast<double>(s.original_max_positions);
  if (wavelength < original / s.high_freq_factor) return 1;
  if (wavelength > original / s.low_freq_factor) return s.factor;
  const double smooth =
      (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return 1 / ((1 - smooth) / s.factor + smooth);
}

double base_inverse_frequency(const DecoderConfig& c, int64_t i) {
  return std::pow(c.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(c.head_dim));
}

// One number when every layer has it, else the list.
Json per_layer(const std::vector<int64_t>& list) {
  const bool equal =
      std::all_of(list.begin(), list.end(), [&](int64_t v) { return v == list.front(); });
  return equal && !list.empty() ? Json(list.front()) : Json(list);
}

std::vector<int64_t> read_per_layer(const ConfigFields& fields, std::string_view key,
                                    int64_t layers) {
  std::vector<int64_t> list = fields.integers(key);
  if (list.size() == 1) list.assign(layers, list.front());
  return list;
}

}  // namespace

void validate(const DecoderConfig& config, std::string_view origin) {
  check_range(origin, "hidden size", config.hidden_size, 1, kMaxWidth);
  check_range(origin, "vocabulary size", config.vocab_size, 1, kMaxVocab);
  check_range(origin, "head size", config.head_dim, 2, kMaxHeadDim);
  if (config.head_dim % 2 != 0) {
    fail(ErrorCode::kCorrupt, "[config] '{}': head size {} is odd, RoPE turns pairs", origin,
         config.head_dim);
  }
  check_range(origin, "context length", config.max_positions, 1, kMaxPositions);
  check_range(origin, "sliding window", config.sliding_window, 0, kMaxPositions);
  check_positive(origin, "RMS epsilon", config.rms_epsilon);
  check_layers(config, origin);
  check_rope(config, origin);
  for (const int64_t token : config.eos_tokens)
    check_range(origin, "end token", token, 0, INT32_MAX);
  check_range(origin, "begin token", config.bos_token, -1, INT32_MAX);
}

Json decoder_config_to_json(const DecoderConfig& c) {
  Json json = {{"family", c.family},
               {"name", c.name},
               {"layers", c.layers()},
               {"hidden_size", c.hidden_size},
               {"vocab_size", c.vocab_size},
               {"head_dim", c.head_dim},
               {"max_positions", c.max_positions},
               {"heads", per_layer(c.heads)},
               {"kv_heads", per_layer(c.kv_heads)},
               {"ffn_size", per_layer(c.ffn_size)},
               {"rms_epsilon", c.rms_epsilon},
               {"rope_theta", c.rope_theta},
               {"tied_embeddings", c.tied_embeddings},
               {"qkv_bias", c.qkv_bias},
               {"eos_tokens", c.eos_tokens},
               {"bos_token", c.bos_token}};
  if (c.rope_scaling) {
    json["rope_scaling"] = {{"factor", c.rope_scaling->factor},
                            {"low_freq_factor", c.rope_scaling->low_freq_factor},
                            {"high_freq_factor", c.rope_scaling->high_freq_factor},
                            {"original_max_positions", c.rope_scaling->original_max_positions}};
  }
  if (!c.rope_frequency_factors.empty()) json["rope_frequency_factors"] = c.rope_frequency_factors;
  if (c.sliding_window > 0) json["sliding_window"] = c.sliding_window;
  return json;
}

DecoderConfig decoder_config_from_json(const Json& json, std::string_view origin) {
  const ConfigFields fields(json, origin);
  DecoderConfig c;
  c.family = fields.text("family", "");
  if (c.family != "llama" && c.family != "mistral" && c.family != "qwen2") {
    fail(ErrorCode::kUnsupported, "[config] '{}': family '{}' is not known: llama, mistral, qwen2",
         origin, c.family);
  }
  c.name = fields.text("name", "");
  const int64_t layers = fields.integer("layers");
  check_range(origin, "number of layers", layers, 1, kMaxLayers);
  c.hidden_size = fields.integer("hidden_size");
  c.vocab_size = fields.integer("vocab_size");
  c.head_dim = fields.integer("head_dim");
  c.max_positions = fields.integer("max_positions");
  c.heads = read_per_layer(fields, "heads", layers);
  c.kv_heads = read_per_layer(fields, "kv_heads", layers);
  c.ffn_size = read_per_layer(fields, "ffn_size", layers);
  if (c.layers() != layers) {
    fail(ErrorCode::kCorrupt, "[config] '{}': {} layers, but {} entries in 'heads'", origin, layers,
         c.layers());
  }
  c.rms_epsilon = fields.number("rms_epsilon", 0);
  c.rope_theta = fields.number("rope_theta", 0);
  c.tied_embeddings = fields.boolean("tied_embeddings", false);
  c.qkv_bias = fields.boolean("qkv_bias", false);
  c.eos_tokens = fields.integers("eos_tokens");
  c.bos_token = fields.integer("bos_token", -1);
  c.sliding_window = fields.integer("sliding_window", 0);
  if (const Json* scaling = fields.find("rope_scaling")) {
    const ConfigFields s(*scaling, origin);
    c.rope_scaling = {s.number("factor", 0), s.number("low_freq_factor", 0),
                      s.number("high_freq_factor", 0), s.integer("original_max_positions")};
  }
  if (const Json* factors = fields.find("rope_frequency_factors")) {
    for (const Json& factor : *factors) {
      if (!factor.is_number())
        fail(ErrorCode::kCorrupt, "[config] '{}': a RoPE factor is no number", origin);
      c.rope_frequency_factors.push_back(factor.get<float>());
    }
  }
  validate(c, origin);
  return c;
}

std::vector<float> rotary_inverse_frequencies(const DecoderConfig& config) {
  std::vector<float> frequencies(config.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double inverse = base_inverse_frequency(config, static_cast<int64_t>(i));
    if (config.rope_scaling) inverse /= llama3_divisor(inverse, *config.rope_scaling);
    if (!config.rope_frequency_factors.empty()) inverse /= config.rope_frequency_factors[i];
    frequencies[i] = static_cast<float>(inverse);
  }
  return frequencies;
}

std::vector<float> rope_frequency_factors(const DecoderConfig& config) {
  if (!config.rope_scaling) return config.rope_frequency_factors;
  std::vector<float> factors(config.head_dim / 2);
  for (size_t i = 0; i < factors.size(); ++i) {
    factors[i] = static_cast<float>(llama3_divisor(
        base_inverse_frequency(config, static_cast<int64_t>(i)), *config.rope_scaling));
  }
  return factors;
}

}  // namespace packlight::io

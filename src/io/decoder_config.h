#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/gguf.h"

namespace packlight::io {

// Far above any real model; bounds what a file can make us allocate.
inline constexpr int64_t kMaxLayers = 4096;

// Llama 3 frequency scaling (config.json "rope_scaling" with rope_type "llama3").
struct Llama3RopeScaling {
  double factor = 8, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_positions = 8192;
};

// Everything that fixes the architecture of a Llama-family decoder. One record for every source and
// target: config.json, GGUF metadata, package metadata.
struct DecoderConfig {
  std::string family;  // "llama", "mistral", "qwen2": as config.json's model_type; SmolLM and
                       // TinyLlama are "llama"
  std::string name;    // free text, from the file when it has one
  int64_t hidden_size = 0;
  int64_t vocab_size = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 0;  // context the model was trained for
  // Per layer, so pruned models need no other record. All three have one entry per layer.
  std::vector<int64_t> heads, kv_heads, ffn_size;
  double rms_epsilon = 1e-5;
  double rope_theta = 10000;
  std::optional<Llama3RopeScaling> rope_scaling;  // any other scaling type is refused on reading
  std::vector<float> rope_frequency_factors;      // GGUF's rope_freqs.weight [head_dim/2], or empty
  int64_t sliding_window = 0;                     // 0: full attention
  bool tied_embeddings = false;
  bool qkv_bias = false;
  std::vector<int64_t> eos_tokens;  // generation ends at any of these
  int64_t bos_token = -1;           // -1: none

  int64_t layers() const { return static_cast<int64_t>(heads.size()); }
};

// Throws Corrupt (naming `origin`) when sizes contradict each other: zero or absurd dimensions,
// heads not a multiple of kv_heads, odd head_dim, lists of different length.
void validate(const DecoderConfig& config, std::string_view origin);

// config.json (and generation_config.json's end tokens, when given) <-> DecoderConfig. A model whose
// layers differ in size is written with lists and under a model_type of our own ("packlight_llama"),
// since transformers has no class for it. Errors:
// Unsupported for a model_type that is not known (the message lists the known ones), another
// activation than silu, a rope type we do not have.
DecoderConfig decoder_config_from_hf(const Json& config, const Json* generation_config,
                                     std::string_view origin);
Json decoder_config_to_hf(const DecoderConfig& config);

// GGUF metadata ("general.architecture" llama, deci or qwen2, "<arch>.block_count", ...) <->
// DecoderConfig. llama.cpp reads sizes that differ from layer to layer of architecture deci alone,
// which is llama otherwise.
DecoderConfig decoder_config_from_gguf(const GgufFile& file);
// The architecture keys only; the tokenizer's are added by deploy/.
std::vector<std::pair<std::string, GgufValue>> decoder_config_to_gguf(const DecoderConfig& config);

// Compact JSON for the package; equal per-layer lists are stored once.
Json decoder_config_to_json(const DecoderConfig& config);
DecoderConfig decoder_config_from_json(const Json& json, std::string_view origin);

// Rotary inverse frequencies [head_dim/2], in double then rounded to f32: theta^(-2i/head_dim),
// Llama 3 scaling and frequency factors applied. The one place that computes them; graph and
// runtime both use it.
std::vector<float> rotary_inverse_frequencies(const DecoderConfig& config);

// What the GGUF tensor rope_freqs.weight [head_dim/2] holds for this config: the divisors of the
// unscaled inverse frequencies. Computed from rope_scaling, or rope_frequency_factors as they are;
// empty when the config has neither.
std::vector<float> rope_frequency_factors(const DecoderConfig& config);

}  // namespace packlight::io

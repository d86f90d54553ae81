#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "base/fail.h"
#include "io/config_fields.h"
#include "io/decoder_config.h"

namespace packlight::io {
namespace {

// What transformers assumes when config.json leaves a field out.
struct FamilyDefaults {
  std::string_view model_type, architecture;
  int64_t kv_heads;  // 0: as many as heads
  int64_t max_positions, sliding_window;
};
constexpr FamilyDefaults kFamilies[] = {
    {"llama", "LlamaForCausalLM", 0, 2048, 0},
    {"mistral", "MistralForCausalLM", 8, 131072, 4096},
    {"qwen2", "Qwen2ForCausalLM", 32, 32768, 4096},
};

// Before model_type and architecture of a model whose layers differ in size, which transformers has no
// class for: its number of heads, of KV heads and its FFN size are lists, one entry a layer.
constexpr std::string_view kByLayerType = "packlight_", kByLayerArchitecture = "Packlight";

bool is_by_layer(const ConfigFields& fields) {
  return fields.text("model_type", "").starts_with(kByLayerType);
}

const FamilyDefaults& family_defaults(const ConfigFields& fields) {
  std::string model_type = fields.text("model_type", "");
  if (is_by_layer(fields)) model_type.erase(0, kByLayerType.size());
  for (const FamilyDefaults& family : kFamilies) {
    if (family.model_type != model_type) continue;
    const Json* list = is_by_layer(fields) ? nullptr : fields.find("architectures");
    const bool other = list != nullptr && !(list->is_array() && list->size() == 1 &&
                                            (*list)[0] == family.architecture);
    if (other) {
      fail(ErrorCode::kUnsupported, "[config] '{}': architectures {} is not [\"{}\"]",
           fields.origin(), list->dump(), family.architecture);
    }
    return family;
  }
  fail(ErrorCode::kUnsupported,
       "[config] '{}': model_type '{}' is not known: llama, mistral, qwen2", fields.origin(),
       model_type);
}

// Fields that change the mathematics in ways the decoder does not have.
void refuse_variants(const ConfigFields& fields) {
  const std::string act = fields.text("hidden_act", "silu");
  if (act != "silu" && act != "swish") {
    fail(ErrorCode::kUnsupported, "[config] '{}': hidden_act '{}' is not silu", fields.origin(),
         act);
  }
  for (const std::string_view key : {"attention_bias", "mlp_bias"}) {
    if (fields.boolean(key, false)) {
      fail(ErrorCode::kUnsupported, "[config] '{}': '{}' true: only Qwen 2's biases are known",
           fields.origin(), key);
    }
  }
  if (fields.number("partial_rotary_factor", 1) != 1) {
    fail(ErrorCode::kUnsupported, "[config] '{}': partial_rotary_factor {} is not 1",
         fields.origin(), fields.number("partial_rotary_factor", 1));
  }
}

// "rope_scaling" (transformers 4) or "rope_parameters" (5, which also holds theta).
void read_rope(const ConfigFields& fields, DecoderConfig& c) {
  c.rope_theta = fields.number("rope_theta", 10000);
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    const Json* object = fields.find(key);
    if (object == nullptr) continue;
    const ConfigFields rope(*object, fields.origin());
    c.rope_theta = rope.number("rope_theta", c.rope_theta);
    const std::string type = rope.text("rope_type", rope.text("type", "default"));
    if (type == "default") continue;
    if (type != "llama3") {
      fail(ErrorCode::kUnsupported, "[config] '{}': {} of type '{}' is not known: default, llama3",
           fields.origin(), key, type);
    }
    for (const std::string_view needed : {"factor", "low_freq_factor", "high_freq_factor"}) {
      if (!rope.has(needed))
        fail(ErrorCode::kCorrupt, "[config] '{}': {} lacks '{}'", fields.origin(), key, needed);
    }
    c.rope_scaling = {rope.number("factor", 0), rope.number("low_freq_factor", 0),
                      rope.number("high_freq_factor", 0),
                      rope.integer("original_max_position_embeddings")};
  }
}

// Which layers slide: all, or none; a mixture has no place in the decoder.
void read_window(const ConfigFields& fields, const FamilyDefaults& family, DecoderConfig& c) {
  const Json* listed = fields.find("layer_types");
  int64_t sliding_layers = family.model_type == "llama" ? 0 : c.layers();
  if (family.model_type == "qwen2") {
    const int64_t first = fields.integer("max_window_layers", 28);
    sliding_layers =
        fields.boolean("use_sliding_window", false) ? std::max<int64_t>(0, c.layers() - first) : 0;
  }
  if (listed != nullptr && family.model_type != "llama") {
    if (!listed->is_array() || static_cast<int64_t>(listed->size()) != c.layers()) {
      fail(ErrorCode::kCorrupt, "[config] '{}': layer_types does not list {} layers",
           fields.origin(), c.layers());
    }
    sliding_layers = 0;
    for (const Json& type : *listed) {
      if (type != "full_attention" && type != "sliding_attention") {
        fail(ErrorCode::kUnsupported, "[config] '{}': layer type {} is not known", fields.origin(),
             type.dump());
      }
      sliding_layers += type == "sliding_attention" ? 1 : 0;
    }
  }
  // A null means full attention; a field left out means the family's default.
  const int64_t window = fields.integer(
      "sliding_window", fields.mentions("sliding_window") ? 0 : family.sliding_window);
  if (sliding_layers == 0 || window == 0) return;
  if (sliding_layers != c.layers()) {
    fail(ErrorCode::kUnsupported,
         "[config] '{}': {} of {} layers have a sliding window; only all or none is known",
         fields.origin(), sliding_layers, c.layers());
  }
  c.sliding_window = window;
}

void read_tokens(const ConfigFields& fields, const Json* generation_config, DecoderConfig& c) {
  c.eos_tokens = fields.integers("eos_token_id");
  const std::vector<int64_t> bos = fields.integers("bos_token_id");
  if (!bos.empty()) c.bos_token = bos.front();
  if (generation_config != nullptr) {
    const ConfigFields generation(*generation_config, fields.origin());
    for (const int64_t token : generation.integers("eos_token_id")) c.eos_tokens.push_back(token);
  }
  std::sort(c.eos_tokens.begin(), c.eos_tokens.end());
  c.eos_tokens.erase(std::unique(c.eos_tokens.begin(), c.eos_tokens.end()), c.eos_tokens.end());
  std::erase_if(c.eos_tokens,
                [](int64_t token) { return token < 0; });  // -1 stands for "none" in some files
}

bool is_same_in_all_layers(const std::vector<int64_t>& list) {
  return std::adjacent_find(list.begin(), list.end(), std::not_equal_to<>()) == list.end();
}

// A field that is a number, or a list of one number a layer.
std::vector<int64_t> by_layer(const ConfigFields& fields, std::string_view key, int64_t layers) {
  if (!is_by_layer(fields)) return std::vector<int64_t>(layers, fields.integer(key));
  std::vector<int64_t> list = fields.integers(key);
  if (static_cast<int64_t>(list.size()) != layers) {
    fail(ErrorCode::kCorrupt, "[config] '{}': '{}' has {} entries for {} layers", fields.origin(),
         key, list.size(), layers);
  }
  return list;
}

// The tolerance covers the F32 frequencies from which converters compute the factors.
bool equal_factors(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](float x, float y) { return std::abs(x - y) <= 1e-4f * std::abs(y); });
}

// GGUF keeps only the factors f = 1 / ((1 - s) / F + s) with s = (P / wavelength - low) / (high -
// low). Every file so far has low 1 and high 4, and the slowest frequencies have f = F, so each
// factor in between tells P.
std::vector<int64_t> candidate_positions(const DecoderConfig& c, const Llama3RopeScaling& known) {
  DecoderConfig unscaled = c;
  unscaled.rope_frequency_factors.clear();
  const std::vector<float> inverse = rotary_inverse_frequencies(unscaled);
  std::vector<int64_t> candidates = {known.original_max_positions};
  for (size_t i = 0; i < inverse.size(); ++i) {
    const double factor = c.rope_frequency_factors[i];
    if (factor <= 1 || factor >= known.factor) continue;
    const double smooth = (1 / factor - 1 / known.factor) / (1 - 1 / known.factor);
    const double cycles =
        smooth * (known.high_freq_factor - known.low_freq_factor) + known.low_freq_factor;
    candidates.push_back(std::llround(2 * std::numbers::pi / inverse[i] * cycles));
  }
  return candidates;
}

Llama3RopeScaling scaling_of_factors(const DecoderConfig& c) {
  DecoderConfig guess = c;
  guess.rope_frequency_factors.clear();
  guess.rope_scaling = Llama3RopeScaling{};
  guess.rope_scaling->factor =
      *std::max_element(c.rope_frequency_factors.begin(), c.rope_frequency_factors.end());
  for (const int64_t positions : candidate_positions(c, *guess.rope_scaling)) {
    guess.rope_scaling->original_max_positions = positions;
    if (equal_factors(rope_frequency_factors(guess), c.rope_frequency_factors))
      return *guess.rope_scaling;
  }
  fail(ErrorCode::kUnsupported,
       "[config] the RoPE frequency factors are not of Llama 3's form with low_freq_factor 1 and "
       "high_freq_factor 4, so "
       "config.json cannot hold them");
}

Json one_or_list(const std::vector<int64_t>& list) {
  return list.size() == 1 ? Json(list.front()) : Json(list);
}

}  // namespace

DecoderConfig decoder_config_from_hf(const Json& config, const Json* generation_config,
                                     std::string_view origin) {
  const ConfigFields fields(config, origin);
  const FamilyDefaults& family = family_defaults(fields);
  refuse_variants(fields);
  DecoderConfig c;
  c.family = family.model_type;
  c.name = fields.text("_name_or_path", "");
  c.hidden_size = fields.integer("hidden_size");
  c.vocab_size = fields.integer("vocab_size");
  const int64_t layers = fields.integer("num_hidden_layers");
  if (layers < 1 || layers > kMaxLayers)
    fail(ErrorCode::kCorrupt, "[config] '{}': {} layers", origin, layers);
  c.heads = by_layer(fields, "num_attention_heads", layers);
  const int64_t heads = c.heads.front();
  if (heads < 1) fail(ErrorCode::kCorrupt, "[config] '{}': {} heads", origin, heads);
  if (fields.has("num_key_value_heads")) {
    c.kv_heads = by_layer(fields, "num_key_value_heads", layers);
  } else {
    c.kv_heads = c.heads;
    if (family.kv_heads > 0) c.kv_heads.assign(layers, family.kv_heads);
  }
  c.ffn_size = by_layer(fields, "intermediate_size", layers);
  c.head_dim = fields.integer("head_dim", c.hidden_size / heads);
  c.max_positions = fields.integer("max_position_embeddings", family.max_positions);
  c.rms_epsilon = fields.number("rms_norm_eps", 1e-6);
  c.tied_embeddings = fields.boolean("tie_word_embeddings", false);
  c.qkv_bias = c.family == "qwen2";
  if (is_by_layer(fields) && !fields.has("head_dim"))
    fail(ErrorCode::kCorrupt, "[config] '{}': head_dim is missing", origin);
  if (!fields.has("head_dim") && c.hidden_size % heads != 0) {
    fail(ErrorCode::kCorrupt, "[config] '{}': hidden_size {} is no multiple of {} heads", origin,
         c.hidden_size, heads);
  }
  read_rope(fields, c);
  read_window(fields, family, c);
  read_tokens(fields, generation_config, c);
  validate(c, origin);
  return c;
}

Json decoder_config_to_hf(const DecoderConfig& c) {
  const auto family =
      std::find_if(std::begin(kFamilies), std::end(kFamilies),
                   [&](const FamilyDefaults& f) { return f.model_type == c.family; });
  if (family == std::end(kFamilies)) {
    fail(ErrorCode::kUnsupported, "[config] family '{}' is not known: llama, mistral, qwen2",
         c.family);
  }
  if (c.qkv_bias != (c.family == "qwen2")) {
    fail(ErrorCode::kUnsupported, "[config] family '{}' {} biases of Q, K and V in config.json",
         c.family, c.qkv_bias ? "has no" : "always has");
  }
  const bool uniform = is_same_in_all_layers(c.ffn_size) && is_same_in_all_layers(c.heads) &&
                       is_same_in_all_layers(c.kv_heads);
  const auto sizes = [&](const std::vector<int64_t>& list) {
    return uniform ? Json(list.front()) : Json(list);
  };
  const std::string prefix(uniform ? "" : kByLayerArchitecture);
  const std::string type_prefix(uniform ? "" : kByLayerType);
  Json json = {{"architectures", {prefix + std::string(family->architecture)}},
               {"model_type", type_prefix + c.family},
               {"hidden_act", "silu"},
               {"hidden_size", c.hidden_size},
               {"intermediate_size", sizes(c.ffn_size)},
               {"num_hidden_layers", c.layers()},
               {"num_attention_heads", sizes(c.heads)},
               {"num_key_value_heads", sizes(c.kv_heads)},
               {"head_dim", c.head_dim},
               {"max_position_embeddings", c.max_positions},
               {"vocab_size", c.vocab_size},
               {"rms_norm_eps", c.rms_epsilon},
               {"rope_theta", c.rope_theta},
               {"tie_word_embeddings", c.tied_embeddings}};
  if (c.rope_scaling || !c.rope_frequency_factors.empty()) {
    const Llama3RopeScaling s = c.rope_scaling ? *c.rope_scaling : scaling_of_factors(c);
    json["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", s.factor},
                            {"low_freq_factor", s.low_freq_factor},
                            {"high_freq_factor", s.high_freq_factor},
                            {"original_max_position_embeddings", s.original_max_positions}};
  }
  if (c.family == "llama" && c.sliding_window > 0) {
    fail(ErrorCode::kUnsupported,
         "[config] family 'llama' has no sliding window in config.json, this model's is {}",
         c.sliding_window);
  }
  if (c.family == "mistral")
    json["sliding_window"] = c.sliding_window > 0 ? Json(c.sliding_window) : Json(nullptr);
  if (c.family == "qwen2") {
    json["use_sliding_window"] = c.sliding_window > 0;
    json["sliding_window"] = c.sliding_window > 0 ? Json(c.sliding_window) : Json(nullptr);
    json["max_window_layers"] = c.sliding_window > 0 ? 0 : c.layers();
  }
  if (!c.eos_tokens.empty()) json["eos_token_id"] = one_or_list(c.eos_tokens);
  if (c.bos_token >= 0) json["bos_token_id"] = c.bos_token;
  return json;
}

}  // namespace packlight::io

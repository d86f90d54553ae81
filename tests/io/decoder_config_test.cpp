#include "io/decoder_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "error_code.h"
#include "io/package.h"
#include "temp_dir.h"
#include "test_paths.h"

namespace packlight::io {
namespace {

using codec::DType;
using test::expect_error;

Json llama_json() {
  return Json::parse(
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_act":"silu","hidden_size":64,
    "intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":100,
    "max_position_embeddings":512,"rms_norm_eps":1e-5,"rope_theta":10000.0,"tie_word_embeddings":true,
    "bos_token_id":1,"eos_token_id":2})");
}

Json qwen2_json() {
  Json json = llama_json();
  json["model_type"] = "qwen2";
  json["architectures"] = {"Qwen2ForCausalLM"};
  return json;
}

Json mistral_json() {
  Json json = llama_json();
  json["model_type"] = "mistral";
  json["architectures"] = {"MistralForCausalLM"};
  return json;
}

Json with(Json json, const std::string& key, Json value) {
  json[key] = std::move(value);
  return json;
}

Json without(Json json, const std::string& key) {
  json.erase(key);
  return json;
}

DecoderConfig from_hf(const Json& json, const Json* generation = nullptr) {
  return decoder_config_from_hf(json, generation, "config.json");
}

Json llama3_scaling() {
  return {{"rope_type", "llama3"},
          {"factor", 8.0},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 64}};
}

TEST(DecoderConfigHfTest, ReadsLlama) {
  const DecoderConfig c = from_hf(llama_json());
  EXPECT_EQ(c.family, "llama");
  EXPECT_EQ(c.layers(), 2);
  EXPECT_EQ(c.hidden_size, 64);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.heads, (std::vector<int64_t>{4, 4}));
  EXPECT_EQ(c.kv_heads, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(c.ffn_size, (std::vector<int64_t>{96, 96}));
  EXPECT_EQ(c.vocab_size, 100);
  EXPECT_EQ(c.max_positions, 512);
  EXPECT_EQ(c.rms_epsilon, 1e-5);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_FALSE(c.qkv_bias);
  EXPECT_EQ(c.sliding_window, 0);
  EXPECT_EQ(c.bos_token, 1);
  EXPECT_EQ(c.eos_tokens, (std::vector<int64_t>{2}));
}

TEST(DecoderConfigHfTest, ReadsVariants) {
  EXPECT_EQ(from_hf(with(llama_json(), "head_dim", 32)).head_dim, 32);
  EXPECT_EQ(from_hf(without(llama_json(), "num_key_value_heads")).kv_heads[0], 4);
  EXPECT_TRUE(from_hf(qwen2_json()).qkv_bias);
  EXPECT_FALSE(from_hf(without(llama_json(), "tie_word_embeddings")).tied_embeddings);
  const Json parameters = {{"rope_theta", 500000.0}, {"rope_type", "default"}};
  EXPECT_EQ(from_hf(with(llama_json(), "rope_parameters", parameters)).rope_theta, 500000.0);
  const Json generation = {{"eos_token_id", {7, 2, 5}}};
  EXPECT_EQ(from_hf(llama_json(), &generation).eos_tokens, (std::vector<int64_t>{2, 5, 7}));
  EXPECT_TRUE(from_hf(with(llama_json(), "eos_token_id", nullptr)).eos_tokens.empty());
}

TEST(DecoderConfigHfTest, SlidingWindows) {
  EXPECT_EQ(from_hf(with(mistral_json(), "sliding_window", 128)).sliding_window, 128);
  EXPECT_EQ(from_hf(with(mistral_json(), "sliding_window", nullptr)).sliding_window, 0);
  EXPECT_EQ(from_hf(mistral_json()).sliding_window, 4096);  // the family's default
  EXPECT_EQ(from_hf(with(qwen2_json(), "sliding_window", 128)).sliding_window,
            0);  // use_sliding_window is false
  Json qwen = with(with(qwen2_json(), "sliding_window", 128), "use_sliding_window", true);
  EXPECT_EQ(from_hf(with(qwen, "max_window_layers", 0)).sliding_window, 128);
  EXPECT_EQ(from_hf(with(qwen, "max_window_layers", 2)).sliding_window, 0);
  expect_error(ErrorCode::kUnsupported, {"1 of 2 layers"},
               [&] { from_hf(with(qwen, "max_window_layers", 1)); });
  qwen["layer_types"] = {"full_attention", "full_attention"};
  EXPECT_EQ(from_hf(qwen).sliding_window, 0);
  qwen["layer_types"] = {"sliding_attention", "full_attention"};
  expect_error(ErrorCode::kUnsupported, {"1 of 2 layers"}, [&] { from_hf(qwen); });
  qwen["layer_types"] = {"linear_attention", "full_attention"};
  expect_error(ErrorCode::kUnsupported, {"linear_attention"}, [&] { from_hf(qwen); });
}

TEST(DecoderConfigHfTest, RefusesWhatTheDecoderDoesNotCompute) {
  const auto refuse = [](const Json& json, std::initializer_list<std::string> parts) {
    expect_error(ErrorCode::kUnsupported, parts, [&] { from_hf(json); });
  };
  refuse(with(llama_json(), "model_type", "gpt2"),
         {"config.json", "gpt2", "llama, mistral, qwen2"});
  refuse(without(llama_json(), "model_type"), {"llama, mistral, qwen2"});
  refuse(with(llama_json(), "architectures", {"LlamaForSequenceClassification"}),
         {"LlamaForSequenceClassification"});
  refuse(with(llama_json(), "hidden_act", "gelu"), {"gelu"});
  refuse(with(llama_json(), "attention_bias", true), {"attention_bias"});
  refuse(with(llama_json(), "mlp_bias", true), {"mlp_bias"});
  refuse(with(llama_json(), "partial_rotary_factor", 0.5), {"partial_rotary_factor"});
  refuse(with(llama_json(), "rope_scaling", {{"type", "linear"}, {"factor", 2.0}}),
         {"linear", "llama3"});
  refuse(with(llama_json(), "rope_scaling", {{"rope_type", "yarn"}, {"factor", 2.0}}), {"yarn"});
}

TEST(DecoderConfigHfTest, RefusesContradictions) {
  const auto refuse = [](const Json& json, std::initializer_list<std::string> parts) {
    SCOPED_TRACE(json.dump());
    expect_error(ErrorCode::kCorrupt, parts, [&] { from_hf(json); });
  };
  refuse(Json::array(), {"config.json", "object"});
  for (const char* key : {"hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads",
                          "intermediate_size"}) {
    refuse(without(llama_json(), key), {key, "missing"});
    refuse(with(llama_json(), key, 0), {"config.json"});
    refuse(with(llama_json(), key, -1), {"config.json"});
    refuse(with(llama_json(), key, "64"), {key});
    refuse(with(llama_json(), key, 1.5), {key});
    refuse(with(llama_json(), key, uint64_t{1} << 63), {key});
    refuse(with(llama_json(), key, int64_t{1} << 60), {"config.json"});
  }
  refuse(with(llama_json(), "num_key_value_heads", 3), {"4 heads", "3 KV heads"});
  refuse(with(llama_json(), "num_attention_heads", 5), {"64", "5 heads"});
  refuse(with(llama_json(), "head_dim", 15), {"15", "odd"});
  refuse(with(llama_json(), "rms_norm_eps", 0), {"epsilon"});
  refuse(with(llama_json(), "rope_theta", -1), {"theta"});
  refuse(with(llama_json(), "tie_word_embeddings", 1), {"tie_word_embeddings"});
  refuse(with(llama_json(), "eos_token_id", {1, "x"}), {"eos_token_id"});
}

TEST(DecoderConfigHfTest, RefusesBrokenLlama3Scaling) {
  const auto refuse = [](const std::string& key, Json value,
                         std::initializer_list<std::string> parts) {
    Json scaling = llama3_scaling();
    if (value.is_null())
      scaling.erase(key);
    else
      scaling[key] = value;
    expect_error(ErrorCode::kCorrupt, parts,
                 [&] { from_hf(with(llama_json(), "rope_scaling", scaling)); });
  };
  for (const char* key :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    refuse(key, nullptr, {key});
    refuse(key, 0, {"config.json"});
  }
  refuse("high_freq_factor", 1.0, {"high_freq_factor"});
}

TEST(DecoderConfigHfTest, RoundTrips) {
  for (Json json :
       {llama_json(), qwen2_json(), with(mistral_json(), "sliding_window", 128),
        with(llama_json(), "rope_scaling", llama3_scaling()), with(llama_json(), "head_dim", 32),
        with(llama_json(), "eos_token_id", {2, 3})}) {
    const DecoderConfig c = from_hf(json);
    const DecoderConfig again = from_hf(decoder_config_to_hf(c));
    EXPECT_EQ(decoder_config_to_json(again).dump(), decoder_config_to_json(c).dump());
  }
}

// transformers has no class for it, so it must not take it for one that it knows.
TEST(DecoderConfigHfTest, SizesByLayerHaveATypeOfTheirOwn) {
  DecoderConfig c = from_hf(llama_json());
  c.ffn_size[1] = 80;
  const Json json = decoder_config_to_hf(c);
  EXPECT_EQ(json.at("model_type"), "packlight_llama");
  EXPECT_EQ(json.at("intermediate_size"), Json(c.ffn_size));
  const DecoderConfig again = from_hf(json);
  EXPECT_EQ(again.ffn_size, c.ffn_size);
  EXPECT_EQ(again.heads, c.heads);
  EXPECT_EQ(again.kv_heads, c.kv_heads);
  EXPECT_EQ(again.family, "llama");
  for (const char* key : {"intermediate_size", "num_attention_heads", "num_key_value_heads"}) {
    Json bad = json;
    bad[key] = {64};  // one entry for all layers
    expect_error(ErrorCode::kCorrupt, {key, "1 entries"}, [&] { from_hf(bad); });
    bad[key] = Json::array({64, "many"});
    expect_error(ErrorCode::kCorrupt, {key}, [&] { from_hf(bad); });
  }
  Json bad = json;
  bad.erase("head_dim");
  expect_error(ErrorCode::kCorrupt, {"head_dim"}, [&] { from_hf(bad); });
  bad = json;
  bad["model_type"] = "packlight_gemma";
  expect_error(ErrorCode::kUnsupported, {"gemma"}, [&] { from_hf(bad); });
  bad = without(json, "architectures");
  bad["model_type"] = "llama";  // lists are not for it
  expect_error(ErrorCode::kCorrupt, {"num_attention_heads"}, [&] { from_hf(bad); });
}

// A GGUF file in memory: metadata, and tensors of zeros.
GgufFile gguf_of(const DecoderConfig& c, bool with_tensors = true) {
  static const std::vector<std::byte> zeros(1 << 16);
  GgufFile file;
  file.path = "model.gguf";
  file.metadata = decoder_config_to_gguf(c);
  if (!with_tensors) return file;
  for (const TensorSpec& spec : decoder_tensors(c)) {
    std::vector<int64_t> shape =
        spec.is_vector ? std::vector{spec.cols} : std::vector{spec.rows, spec.cols};
    file.tensors.push_back(
        {gguf_tensor_name(spec.name), DType::kF32, std::move(shape), zeros, nullptr});
  }
  return file;
}

GgufFile with_key(GgufFile file, const std::string& key, GgufValue value) {
  std::erase_if(file.metadata, [&](const auto& entry) { return entry.first == key; });
  file.metadata.emplace_back(key, std::move(value));
  return file;
}

TEST(DecoderConfigGgufTest, RoundTrips) {
  DecoderConfig pruned = from_hf(with(llama_json(), "head_dim", 16));
  pruned.heads[1] = 2;
  pruned.kv_heads[1] = 1;
  pruned.ffn_size[0] = 40;
  for (DecoderConfig c :
       {from_hf(llama_json()), from_hf(with(llama_json(), "head_dim", 32)), from_hf(qwen2_json()),
        from_hf(with(mistral_json(), "sliding_window", 128)), pruned}) {
    c.eos_tokens.clear();  // the tokenizer's keys hold these
    c.bos_token = -1;
    c.name = "some name";
    c.rms_epsilon = static_cast<float>(c.rms_epsilon);  // what F32 keeps
    const DecoderConfig again = decoder_config_from_gguf(gguf_of(c));
    EXPECT_EQ(decoder_config_to_json(again).dump(), decoder_config_to_json(c).dump());
  }
}

TEST(DecoderConfigGgufTest, ReadsTheTokensThatEndGeneration) {
  GgufFile file = gguf_of(from_hf(llama_json()));
  file = with_key(file, "tokenizer.ggml.eos_token_id", {uint32_t{9}});
  file = with_key(file, "tokenizer.ggml.eot_token_id", {uint32_t{4}});
  file = with_key(file, "tokenizer.ggml.bos_token_id", {uint32_t{1}});
  file = with_key(file, "tokenizer.ggml.tokens",
                  {std::vector<std::string>{"a", "<s>", "<|im_end|>", "<|endoftext|>", "b"}});
  // The fourth is ordinary text here, so it ends nothing.
  file = with_key(file, "tokenizer.ggml.token_type", {std::vector<int32_t>{1, 3, 3, 1, 3}});
  const DecoderConfig c = decoder_config_from_gguf(file);
  EXPECT_EQ(c.eos_tokens, (std::vector<int64_t>{2, 4, 9}));
  EXPECT_EQ(c.bos_token, 1);
}

TEST(DecoderConfigGgufTest, TensorsDecideTiesAndBiases) {
  DecoderConfig c = from_hf(llama_json());
  EXPECT_TRUE(decoder_config_from_gguf(gguf_of(c)).tied_embeddings);
  c.tied_embeddings = false;
  EXPECT_FALSE(decoder_config_from_gguf(gguf_of(c)).tied_embeddings);
  EXPECT_FALSE(decoder_config_from_gguf(gguf_of(c)).qkv_bias);
  EXPECT_TRUE(decoder_config_from_gguf(gguf_of(from_hf(qwen2_json()))).qkv_bias);
}

TEST(DecoderConfigGgufTest, VocabularySizeWithoutTensorsOrKey) {
  GgufFile file = gguf_of(from_hf(llama_json()), false);
  std::erase_if(file.metadata, [](const auto& entry) { return entry.first == "llama.vocab_size"; });
  file = with_key(file, "tokenizer.ggml.tokens", {std::vector<std::string>(33, "x")});
  EXPECT_EQ(decoder_config_from_gguf(file).vocab_size, 33);
}

TEST(DecoderConfigGgufTest, Refusals) {
  const GgufFile good = gguf_of(from_hf(llama_json()));
  const auto refuse = [&](ErrorCode code, const std::string& key, GgufValue value,
                          std::initializer_list<std::string> parts) {
    SCOPED_TRACE(key);
    expect_error(code, parts, [&] { decoder_config_from_gguf(with_key(good, key, value)); });
  };
  const ErrorCode unsupported = ErrorCode::kUnsupported, corrupt = ErrorCode::kCorrupt;
  refuse(unsupported, "general.architecture", {std::string("gemma3")},
         {"model.gguf", "gemma3", "llama, deci, qwen2"});
  refuse(unsupported, "llama.expert_count", {uint32_t{8}}, {"expert_count"});
  refuse(unsupported, "llama.attention.scale", {0.5f}, {"attention.scale"});
  refuse(unsupported, "llama.rope.scaling.type", {std::string("yarn")}, {"yarn"});
  refuse(unsupported, "llama.rope.scale_linear", {2.0f}, {"RoPE scaling"});
  refuse(unsupported, "llama.rope.dimension_count", {uint32_t{8}}, {"8 of 16"});
  refuse(unsupported, "llama.attention.value_length", {uint32_t{8}}, {"value_length 8"});
  refuse(corrupt, "llama.block_count", {uint32_t{0}}, {"0 layers"});
  refuse(corrupt, "llama.block_count", {uint32_t{4000000000}}, {"4000000000 layers"});
  refuse(corrupt, "llama.attention.head_count", {std::vector<uint32_t>{4, 4, 4}},
         {"3 entries", "2 layers"});
  refuse(corrupt, "llama.attention.head_count", {uint32_t{0}}, {"0 heads"});
  refuse(corrupt, "llama.attention.head_count", {uint32_t{7}}, {"7 heads"});
  refuse(corrupt, "llama.attention.head_count", {1.5f}, {"head_count"});
  refuse(corrupt, "llama.embedding_length", {uint32_t{0}}, {"hidden size 0"});
  refuse(corrupt, "llama.attention.layer_norm_rms_epsilon", {std::nanf("")}, {"epsilon"});
  for (const char* key : {"general.architecture", "llama.block_count", "llama.embedding_length",
                          "llama.feed_forward_length", "llama.context_length",
                          "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"}) {
    GgufFile file = good;
    std::erase_if(file.metadata, [&](const auto& entry) { return entry.first == key; });
    expect_error(corrupt, {key, "missing"}, [&] { decoder_config_from_gguf(file); });
  }
}

TEST(DecoderConfigGgufTest, RopeFrequencyFactorsComeFromTheirTensor) {
  GgufFile file = gguf_of(from_hf(llama_json()));
  const std::vector<float> factors = {1, 1, 1.5f, 2, 4, 8, 8, 8};
  file.tensors.push_back(
      {"rope_freqs.weight", DType::kF32, {8}, std::as_bytes(std::span(factors)), nullptr});
  EXPECT_EQ(decoder_config_from_gguf(file).rope_frequency_factors, factors);
  file.tensors.back().shape = {7};
  expect_error(ErrorCode::kCorrupt, {"rope_freqs.weight", "8 floats"},
               [&] { decoder_config_from_gguf(file); });
  file.tensors.back().shape = {8};
  const std::vector<float> zeros(8);
  file.tensors.back().bytes = std::as_bytes(std::span(zeros));
  expect_error(ErrorCode::kCorrupt, {"factor"}, [&] { decoder_config_from_gguf(file); });
}

TEST(RotaryTest, PlainFrequenciesFollowTheFormula) {
  const DecoderConfig c = from_hf(llama_json());
  const std::vector<float> f = rotary_inverse_frequencies(c);
  ASSERT_EQ(f.size(), 8u);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(f[i], static_cast<float>(std::pow(10000.0, -i / 8.0))) << i;
  EXPECT_TRUE(rope_frequency_factors(c).empty());
}

// The three branches of transformers' formula, written out for one frequency each.
TEST(RotaryTest, Llama3Scaling) {
  DecoderConfig c = from_hf(with(llama_json(), "rope_scaling", llama3_scaling()));
  const std::vector<float> f = rotary_inverse_frequencies(c);
  const std::vector<float> factors = rope_frequency_factors(c);
  ASSERT_EQ(factors.size(), 8u);
  int branches[3] = {};
  for (int i = 0; i < 8; ++i) {
    const double inverse = std::pow(10000.0, -i / 8.0), wavelength = 2 * std::numbers::pi / inverse;
    double want = 0;
    if (wavelength < 64 / 4.0) {
      want = inverse;
      ++branches[0];
    } else if (wavelength > 64 / 1.0) {
      want = inverse / 8;
      ++branches[1];
    } else {
      const double smooth = (64 / wavelength - 1) / (4 - 1);
      want = (1 - smooth) * inverse / 8 + smooth * inverse;
      ++branches[2];
    }
    EXPECT_FLOAT_EQ(f[i], static_cast<float>(want)) << i;
    EXPECT_FLOAT_EQ(factors[i], static_cast<float>(inverse / want)) << i;
  }
  for (const int count : branches) EXPECT_GT(count, 0);
  // GGUF's form of the same.
  c.rope_scaling.reset();
  c.rope_frequency_factors = factors;
  const std::vector<float> same = rotary_inverse_frequencies(c);
  for (int i = 0; i < 8; ++i) EXPECT_FLOAT_EQ(same[i], f[i]) << i;
}

TEST(RotaryTest, FactorsBecomeLlama3ScalingAgain) {
  for (const int64_t positions : {64, 8192, 131072}) {
    for (const double factor : {8.0, 32.0}) {
      DecoderConfig c = from_hf(with(llama_json(), "head_dim", 64));
      c.rope_theta = 500000;
      c.rope_scaling = Llama3RopeScaling{factor, 1, 4, positions};
      const std::vector<float> factors = rope_frequency_factors(c);
      c.rope_scaling.reset();
      c.rope_frequency_factors = factors;
      const DecoderConfig again = from_hf(decoder_config_to_hf(c));
      ASSERT_TRUE(again.rope_scaling.has_value());
      EXPECT_EQ(again.rope_scaling->factor, factor);
      EXPECT_EQ(again.rope_scaling->original_max_positions, positions);
      EXPECT_EQ(rope_frequency_factors(again), factors);
    }
  }
  DecoderConfig c = from_hf(llama_json());
  c.rope_frequency_factors = {1, 2, 3, 4, 5, 6, 7, 8};
  expect_error(ErrorCode::kUnsupported, {"Llama 3"}, [&] { decoder_config_to_hf(c); });
}

TEST(DecoderConfigJsonTest, RoundTripsAndStaysSmall) {
  DecoderConfig c = from_hf(with(llama_json(), "rope_scaling", llama3_scaling()));
  c.sliding_window = 77;
  c.name = "n\u00e4me";
  const Json json = decoder_config_to_json(c);
  EXPECT_EQ(json["heads"], 4);  // equal lists are stored once
  EXPECT_EQ(decoder_config_to_json(decoder_config_from_json(json, "x")).dump(), json.dump());
  c.ffn_size[1] = 32;
  const Json lists = decoder_config_to_json(c);
  EXPECT_EQ(lists["ffn_size"], (Json{96, 32}));
  EXPECT_EQ(decoder_config_from_json(lists, "x").ffn_size, c.ffn_size);
}

TEST(DecoderConfigJsonTest, RefusesContradictions) {
  const Json good = decoder_config_to_json(from_hf(llama_json()));
  const auto refuse = [&](const std::string& key, Json value,
                          std::initializer_list<std::string> parts) {
    expect_error(ErrorCode::kCorrupt, parts,
                 [&] { decoder_config_from_json(with(good, key, value), "pack"); });
  };
  refuse("layers", 3000000000, {"pack", "3000000000"});
  refuse("heads", {4, 4, 4}, {"pack"});
  refuse("heads", Json::array(), {"pack"});
  refuse("kv_heads", {2, 2, 2}, {"pack", "length"});
  refuse("rope_frequency_factors", {1.0}, {"pack", "factors"});
  refuse("rope_frequency_factors", {"x"}, {"pack", "factor"});
  refuse("rope_scaling", 5, {"pack", "object"});
  refuse("hidden_size", nullptr, {"hidden_size", "missing"});
  expect_error(ErrorCode::kUnsupported, {"gpt2"},
               [&] { decoder_config_from_json(with(good, "family", "gpt2"), "pack"); });
}

TEST(DecoderTensorsTest, ListsEveryTensorInTheOrderOfUse) {
  const std::vector<TensorSpec> specs =
      decoder_tensors(from_hf(with(qwen2_json(), "tie_word_embeddings", false)));
  EXPECT_EQ(specs.size(), 1 + 2 * 12 + 1 + 1u);
  EXPECT_EQ(specs.front().name, "model.embed_tokens.weight");
  EXPECT_EQ(specs.front().block, "embed");
  EXPECT_EQ(specs[4].name, "model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ(specs[4].rows, 32);
  EXPECT_EQ(specs[4].cols, 64);
  EXPECT_EQ(specs[5].name, "model.layers.0.self_attn.k_proj.bias");
  EXPECT_TRUE(specs[5].is_vector);
  EXPECT_EQ(specs[5].cols, 32);
  EXPECT_EQ(specs.back().name, "lm_head.weight");
  EXPECT_EQ(specs.back().block, "head");
}

TEST(DecoderTensorsTest, GgufNames) {
  EXPECT_EQ(gguf_tensor_name("model.embed_tokens.weight"), "token_embd.weight");
  EXPECT_EQ(gguf_tensor_name("model.layers.12.self_attn.q_proj.bias"), "blk.12.attn_q.bias");
  EXPECT_EQ(gguf_tensor_name("model.layers.0.post_attention_layernorm.weight"),
            "blk.0.ffn_norm.weight");
  for (const char* name : {"", "model.layers.", "model.layers.0", "model.layers.0.weight",
                           "model.layers.0.x.weight"}) {
    expect_error(ErrorCode::kInvalidArgument, {name}, [&] { gguf_tensor_name(name); });
  }
}

TEST(DecoderConfigRealFileTest, SmolLm) {
  if (!std::filesystem::exists(test::smollm_gguf())) GTEST_SKIP() << "run scripts/setup first";
  const DecoderConfig c = decoder_config_from_gguf(read_gguf(test::smollm_gguf()));
  EXPECT_EQ(c.layers(), 30);
  EXPECT_EQ(c.hidden_size, 576);
  EXPECT_EQ(c.heads[29], 9);
  EXPECT_EQ(c.kv_heads[0], 3);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.ffn_size[0], 1536);
  EXPECT_EQ(c.vocab_size, 49152);
  EXPECT_EQ(c.rope_theta, 100000);
  EXPECT_TRUE(c.tied_embeddings);
  EXPECT_EQ(c.eos_tokens,
            (std::vector<int64_t>{0, 2}));  // <|endoftext|> ends a document, <|im_end|> a turn
}

}  // namespace
}  // namespace packlight::io

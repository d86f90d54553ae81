#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "codec/tile.h"
#include "exec/executor.h"
#include "graph/error_of.h"
#include "import/tiny_decoder.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "temp_dir.h"

namespace packlight::import {
namespace {

using test::close;
using test::contains;
using test::error_of;
using test::NamedTensors;

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

// Rows of each head as GGUF's "llama" has them: i, i + half -> 2i, 2i + 1.
at::Tensor to_gguf_order(const at::Tensor& x, int64_t heads) {
  const int64_t half = x.size(0) / heads / 2;
  return x.reshape({heads, 2, half, -1}).transpose(1, 2).reshape(x.sizes()).contiguous();
}

void write_gguf_model(const std::filesystem::path& path, const io::DecoderConfig& config,
                      NamedTensors weights) {
  std::vector<io::GgufTensorToWrite> tensors;
  for (auto& [name, tensor] : weights) {
    std::string gguf_name;
    try {
      gguf_name = io::gguf_tensor_name(name);
    } catch (const Error&) {
      gguf_name = name;  // a tensor that no rule knows
    }
    for (int64_t layer = 0; config.family != "qwen2" && layer < config.layers(); ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".self_attn.";
      if (name == prefix + "q_proj.weight") tensor = to_gguf_order(tensor, config.heads[layer]);
      if (name == prefix + "k_proj.weight") tensor = to_gguf_order(tensor, config.kv_heads[layer]);
    }
    tensors.push_back(
        {gguf_name, codec::DType::kF32, tensor.sizes().vec(), bytes_of(tensor), nullptr});
  }
  io::write_gguf(path, io::decoder_config_to_gguf(config), tensors);
}

void write_folder(const std::filesystem::path& path, const io::DecoderConfig& config,
                  const NamedTensors& weights, const Json& extra = {}) {
  std::filesystem::create_directories(path);
  Json json = io::decoder_config_to_hf(config);
  if (extra.is_object()) json.update(extra);
  test::write_file(path / "config.json", json.dump());
  std::vector<io::TensorToWrite> tensors;
  for (const auto& [name, tensor] : weights) {
    const std::map<at::ScalarType, codec::DType> types = {{at::kFloat, codec::DType::kF32},
                                                          {at::kHalf, codec::DType::kF16},
                                                          {at::kInt, codec::DType::kI32},
                                                          {at::kLong, codec::DType::kI64},
                                                          {at::kChar, codec::DType::kI8}};
    tensors.push_back(
        {name, types.at(tensor.scalar_type()), tensor.sizes().vec(), {bytes_of(tensor)}});
  }
  io::write_safetensors(path / "model.safetensors", tensors, {});
}

// Folders and GGUF have one number for all layers.
io::DecoderConfig even_config(const std::string& family) {
  io::DecoderConfig config = test::small_config(family);
  config.heads = {4, 4};
  config.kv_heads = {2, 2};
  config.ffn_size = {48, 48};
  return config;
}

at::Tensor logits(const graph::Graph& graph) {
  exec::Executor executor(graph);
  const at::Tensor ids = at::arange(9, at::kLong).mul(7).remainder(40).unsqueeze(0);
  return executor.run({{"input_ids", ids}, {"position_ids", at::arange(9, at::kLong).unsqueeze(0)}})
      .at("logits");
}

class LoadTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LoadTest, GgufAndFolderGiveTheSameLogits) {
  const test::TempDir dir;
  const io::DecoderConfig config = even_config(GetParam());
  const NamedTensors weights = test::random_weights(config);
  const at::Tensor want = logits(test::small_graph(config, weights));
  write_gguf_model(dir / "m.gguf", config, weights);
  write_folder(dir / "m", config, weights);
  const LanguageModel gguf = load_language_model(dir / "m.gguf"),
                      folder = load_language_model(dir / "m");
  EXPECT_EQ(gguf.kind, io::ModelKind::kGguf);
  EXPECT_EQ(folder.kind, io::ModelKind::kHfFolder);
  EXPECT_FALSE(gguf.tokenizer.has_value());
  EXPECT_TRUE(close(logits(gguf.graph), want, 0));
  EXPECT_TRUE(close(logits(folder.graph), want, 0));
}

INSTANTIATE_TEST_SUITE_P(Family, LoadTest, ::testing::Values("llama", "mistral", "qwen2"));

TEST(LoadErrorsTest, MissingAndUnknownTensorsAreNamed) {
  const test::TempDir dir;
  const io::DecoderConfig config = even_config("llama");
  NamedTensors missing = test::random_weights(config), unknown = missing, misshapen = missing;
  missing.erase("model.layers.1.mlp.up_proj.weight");
  unknown["blk.0.attn_gate.weight"] = at::ones({4, 32});
  misshapen["model.norm.weight"] = at::ones({31});
  write_gguf_model(dir / "missing.gguf", config, missing);
  write_folder(dir / "missing", config, missing);
  EXPECT_TRUE(contains(error_of([&] { load_language_model(dir / "missing.gguf"); }),
                       "'blk.1.ffn_up.weight'"));
  EXPECT_TRUE(
      contains(error_of([&] { load_language_model(dir / "missing"); }), "Corrupt: [import] '"));
  write_gguf_model(dir / "unknown.gguf", config, unknown);
  write_folder(dir / "unknown", config, unknown);
  EXPECT_TRUE(contains(error_of([&] { load_language_model(dir / "unknown.gguf"); }),
                       "'blk.0.attn_gate.weight' is used by no rule"));
  EXPECT_TRUE(contains(error_of([&] { load_language_model(dir / "unknown"); }), "Unsupported"));
  write_folder(dir / "misshapen", config, misshapen);
  EXPECT_TRUE(contains(error_of([&] { load_language_model(dir / "misshapen"); }),
                       "'model.norm.weight' has shape [31]"));
  EXPECT_TRUE(contains(error_of([&] { load_language_model(dir / "nothing"); }), "NotFound"));
}

TEST(LoadErrorsTest, TiedHeadMayBeStoredTwiceButNotDiffer) {
  const test::TempDir dir;
  const io::DecoderConfig config = even_config("llama");
  NamedTensors weights = test::random_weights(config);
  weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone();
  weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = at::ones({4});
  write_folder(dir / "same", config, weights);
  EXPECT_EQ(error_of([&] { load_language_model(dir / "same"); }), "");
  weights["lm_head.weight"][0][0] += 1;
  write_folder(dir / "other", config, weights);
  EXPECT_TRUE(
      contains(error_of([&] { load_language_model(dir / "other"); }), "lm_head.weight differs"));
}

// Codes 0..15 in every word; q - 8 times the group's scale.
TEST(CompressedFolderTest, PackQuantizedBecomesTiles) {
  const test::TempDir dir;
  const io::DecoderConfig config = even_config("llama");
  NamedTensors weights = test::random_weights(config);
  const std::string module = "model.layers.0.mlp.down_proj";  // [32, 48]
  weights.erase(module + ".weight");
  at::Tensor packed = at::empty({32, 6}, at::kInt);
  packed.fill_(static_cast<int32_t>(0xf7654321u));  // little end first: 1, 2, ..., 7, 15
  weights[module + ".weight_packed"] = packed;
  weights[module + ".weight_scale"] = at::arange(1, 33, at::kHalf).unsqueeze(1).clone();
  weights[module + ".weight_shape"] = test::integers({32, 48}, {2});
  Json scheme = {{"num_bits", 4}, {"type", "int"}, {"symmetric", true}, {"strategy", "channel"}};
  Json activations = {{"num_bits", 8},
                      {"type", "int"},
                      {"symmetric", true},
                      {"dynamic", true},
                      {"strategy", "token"}};
  Json group = {{"targets", {"Linear"}}, {"weights", scheme}, {"input_activations", activations}};
  const auto extra = [&] {
    return Json{{"quantization_config",
                 {{"quant_method", "compressed-tensors"},
                  {"format", "pack-quantized"},
                  {"config_groups", {{"group_0", group}}}}}};
  };
  write_folder(dir / "m", config, weights, extra());
  const LanguageModel model = load_language_model(dir / "m");
  const graph::Value& value = model.graph.value(*model.graph.find(module + ".weight"));
  const auto& encoded = std::get<codec::EncodedTensor>(*value.weight);
  EXPECT_EQ(encoded.dtype, codec::DType::kTileInt4);
  const at::Tensor dense = exec::dense_weight(*value.weight);
  EXPECT_TRUE(
      close(dense[2].narrow(0, 0, 8), test::tensor({-21, -18, -15, -12, -9, -6, -3, 21}, {8}), 0));
  for (const graph::Node& node : model.graph.nodes()) {
    EXPECT_EQ(node.input_quant == graph::ActivationQuant::kInt8PerToken32, node.name == module)
        << node.name;
  }

  // Scales that F16 cannot hold: dense, the same values.
  NamedTensors fine = weights;
  fine[module + ".weight_scale"] = weights[module + ".weight_scale"].to(at::kFloat) + 0x1p-20f;
  write_folder(dir / "fine", config, fine, extra());
  const LanguageModel fine_model = load_language_model(dir / "fine");
  const at::Tensor fine_dense = exec::dense_weight(
      *fine_model.graph.value(*fine_model.graph.find(module + ".weight")).weight);
  EXPECT_TRUE(close(fine_dense[2].narrow(0, 0, 2),
                    test::tensor({-7 * (3 + 0x1p-20f), -6 * (3 + 0x1p-20f)}, {2}), 0));

  // Asymmetric: zero points packed along the rows.
  NamedTensors asymmetric = weights;
  asymmetric[module + ".weight_zero_point"] = at::empty({4, 1}, at::kInt).fill_(0x76543210);
  group["weights"]["symmetric"] = false;
  write_folder(dir / "asym", config, asymmetric, extra());
  const LanguageModel asym_model = load_language_model(dir / "asym");
  const at::Tensor asym = exec::dense_weight(
      *asym_model.graph.value(*asym_model.graph.find(module + ".weight")).weight);
  EXPECT_TRUE(close(asym[10].narrow(0, 0, 3), test::tensor({-11, 0, 11}, {3}),
                    0));  // row 10: zero point 2, scale 11

  write_folder(dir / "no_zeros", config, weights, extra());
  EXPECT_TRUE(contains(error_of([&] { load_language_model(dir / "no_zeros"); }),
                       "weight_zero_point' is missing"));
  group["weights"]["symmetric"] = true;
  NamedTensors lies = weights;
  lies[module + ".weight_shape"] = test::integers({32, 49}, {2});
  write_folder(dir / "lies", config, lies, extra());
  EXPECT_TRUE(
      contains(error_of([&] { load_language_model(dir / "lies"); }), "contradicts weight_shape"));
  group["weights"]["num_bits"] = 2;
  write_folder(dir / "bits", config, weights, extra());
  EXPECT_TRUE(contains(error_of([&] { load_language_model(dir / "bits"); }), "Unsupported"));
}

TEST(CompressedFolderTest, IntQuantizedBecomesTiles) {
  const test::TempDir dir;
  const io::DecoderConfig config = even_config("mistral");
  NamedTensors weights = test::random_weights(config);
  weights["lm_head.weight"] =
      at::arange(40 * 32, at::kLong).remainder(255).sub(127).to(at::kChar).view({40, 32});
  weights["lm_head.weight_scale"] = at::full({40, 1}, 0.25, at::kHalf);
  Json scheme = {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "channel"}};
  Json group = {{"targets", {"re:lm_.*"}}, {"weights", scheme}};
  Json extra{{"quantization_config",
              {{"quant_method", "compressed-tensors"},
               {"format", "int-quantized"},
               {"config_groups", {{"group_0", group}}}}}};
  write_folder(dir / "m", config, weights, extra);
  const LanguageModel model = load_language_model(dir / "m");
  const auto& weight = *model.graph.value(*model.graph.find("lm_head.weight")).weight;
  EXPECT_EQ(std::get<codec::EncodedTensor>(weight).dtype, codec::DType::kTileInt8);
  EXPECT_TRUE(
      close(exec::dense_weight(weight), weights["lm_head.weight"].to(at::kFloat) * 0.25, 0));

  weights["lm_head.weight"][0][0] = -128;  // no tile code
  write_folder(dir / "dense", config, weights, extra);
  const LanguageModel dense = load_language_model(dir / "dense");
  EXPECT_TRUE(
      close(exec::dense_weight(*dense.graph.value(*dense.graph.find("lm_head.weight")).weight),
            weights["lm_head.weight"].to(at::kFloat) * 0.25, 0));
  extra["quantization_config"]["quant_method"] = "gptq";
  write_folder(dir / "gptq", config, weights, extra);
  EXPECT_TRUE(contains(error_of([&] { load_language_model(dir / "gptq"); }), "'gptq'"));
}

TEST(LoadPackageTest, WeightsAreTilesAndActivationsFollowTheFormat) {
  const test::TempDir dir;
  const io::DecoderConfig config = test::small_config("llama");
  NamedTensors weights = test::random_weights(config);
  io::PackageMetadata metadata;
  metadata.config = config;
  metadata.recipe = Json::object();
  std::vector<io::PackageTensor> tensors;
  for (const io::TensorSpec& spec : io::decoder_tensors(config)) {
    at::Tensor& tensor = weights[spec.name];
    if (spec.is_vector) {
      codec::EncodedTensor vector;
      vector.rows = 1, vector.cols = spec.cols;
      vector.data = bytes_of(tensor);
      tensors.push_back({spec.name, vector});
      continue;
    }
    codec::QuantizedMatrix m{spec.rows, spec.cols, 8, 32, {}, {}, {}};
    const at::Tensor codes = (tensor * 300).round().to(at::kChar);
    m.codes.assign(codes.data_ptr<int8_t>(), codes.data_ptr<int8_t>() + codes.numel());
    m.scales.assign(m.rows * m.groups_per_row(), 0x1800);  // 2^-9
    tensor = codes.to(at::kFloat) * 0x1p-9f;
    tensors.push_back({spec.name, codec::pack(m)});
    metadata.formats[spec.name] = {codec::DType::kTileInt8, 32, true,
                                   spec.name.find("q_proj") != std::string::npos};
  }
  io::write_package(dir / "m.plk", metadata, tensors, {});
  const LanguageModel model = load_language_model(dir / "m.plk");
  EXPECT_EQ(model.kind, io::ModelKind::kPackage);
  graph::Graph want = test::small_graph(config, weights);
  for (graph::NodeId id = 0; id < static_cast<graph::NodeId>(want.nodes().size()); ++id) {
    if (!want.node(id).name.ends_with("q_proj")) continue;
    want.node(id).input_quant = graph::ActivationQuant::kInt8PerToken32;
  }
  EXPECT_TRUE(close(logits(model.graph), logits(want), 0));
}

}  // namespace
}  // namespace packlight::import

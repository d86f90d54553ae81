#include <gtest/gtest.h>

#include <cstring>

#include "deploy/gguf_writer.h"
#include "deploy/hf_writer.h"
#include "deploy/package_writer.h"
#include "deploy/weight_view.h"
#include "error_code.h"
#include "io/gguf.h"
#include "tiny_language_model.h"

namespace packlight::deploy {
namespace {

using codec::DType;
using codec::EncodedTensor;
using import::LanguageModel;

// Every weight decoded to F32, by name.
std::map<std::string, std::vector<float>> values_of(const LanguageModel& model) {
  std::map<std::string, std::vector<float>> out;
  for (const io::TensorSpec& spec : io::decoder_tensors(model.config)) {
    std::vector<float>& values = out[spec.name];
    values.resize(spec.rows * spec.cols);
    codec::decode_rows(encoded_weight(model.graph, spec), 0, spec.rows, values.data());
  }
  return out;
}

// Packs every matrix; one whose name has `part` gets `special`.
std::map<std::string, io::WeightFormat> pack_all(LanguageModel& model, const io::WeightFormat& format,
                                                 const std::string& part = "?", const io::WeightFormat& special = {}) {
  std::map<std::string, io::WeightFormat> formats;
  for (const io::TensorSpec& spec : io::decoder_tensors(model.config)) {
    if (spec.is_vector) continue;
    const io::WeightFormat& f = formats[spec.name] = spec.name.find(part) == std::string::npos ? format : special;
    graph::Value& value = model.graph.value(*model.graph.find(spec.name));
    value.type = graph::ElementType::kF32;
    if (f.dtype == DType::kTileF16) {
      std::vector<float> values(spec.rows * spec.cols);
      codec::decode_rows(encoded_weight(model.graph, spec), 0, spec.rows, values.data());
      value.weight = codec::pack_f16(values, spec.rows, spec.cols);
    } else {
      const int bits = f.dtype == DType::kTileInt4 ? 4 : 8;
      value.weight = codec::pack(test::random_codes(spec.rows, spec.cols, bits, f.group_size, f.symmetric));
    }
  }
  for (graph::NodeId n = 0; n < static_cast<graph::NodeId>(model.graph.nodes().size()); ++n) {
    const auto weight = graph::linear_weight(model.graph, model.graph.node(n));
    if (weight && formats.at(model.graph.value(weight->value).name).int8_activations) {
      model.graph.node(n).input_quant = graph::ActivationQuant::kInt8PerToken32;
    }
  }
  return formats;
}

io::WeightFormat format(const char* text) { return io::weight_format_from_string(text, "test"); }

class Dense : public ::testing::TestWithParam<std::tuple<const char*, bool, at::ScalarType>> {};

TEST_P(Dense, GgufToFolderToGgufRestoresEveryTensor) {
  const auto [family, tied, type] = GetParam();
  const test::TestFolder folder;
  const LanguageModel model = test::tiny_model(test::tiny_config(family, tied), type);
  write_gguf_model(model, folder / "first.gguf");
  const LanguageModel first = import::load_language_model(folder / "first.gguf");
  EXPECT_EQ(values_of(first), values_of(model));
  write_hf_folder(first, folder / "folder");
  const LanguageModel second = import::load_language_model(folder / "folder");
  EXPECT_EQ(values_of(second), values_of(model));
  write_gguf_model(second, folder / "second.gguf");
  const io::GgufFile a = io::read_gguf(folder / "first.gguf"), b = io::read_gguf(folder / "second.gguf");
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const io::TensorRecord& tensor : a.tensors) {
    const io::TensorRecord* other = b.find_tensor(tensor.name);
    ASSERT_NE(other, nullptr) << tensor.name;
    EXPECT_EQ(other->dtype, tensor.dtype) << tensor.name;
    ASSERT_EQ(other->bytes.size(), tensor.bytes.size()) << tensor.name;
    EXPECT_EQ(std::memcmp(other->bytes.data(), tensor.bytes.data(), tensor.bytes.size()), 0) << tensor.name;
  }
}
INSTANTIATE_TEST_SUITE_P(Variants, Dense,
                         ::testing::Values(std::tuple("llama", true, at::kFloat), std::tuple("llama", false, at::kHalf),
                                           std::tuple("mistral", false, at::kBFloat16),
                                           std::tuple("qwen2", true, at::kBFloat16)));

TEST(GgufWriter, FillsTheVocabularyToTheEmbedding) {
  const test::TestFolder folder;
  write_gguf_model(test::tiny_model(test::tiny_config()), folder / "m.gguf");
  const io::GgufFile file = io::read_gguf(folder / "m.gguf");
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), 40u);
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens")[39], "[PAD39]");
}

TEST(GgufWriter, FrequencyScalingBecomesATensor) {
  const test::TestFolder folder;
  io::DecoderConfig config = test::tiny_config();
  config.rope_scaling = io::Llama3RopeScaling{};
  write_gguf_model(test::tiny_model(config), folder / "m.gguf");
  const io::GgufFile file = io::read_gguf(folder / "m.gguf");
  ASSERT_NE(file.find_tensor("rope_freqs.weight"), nullptr);
  EXPECT_EQ(file.find_tensor("rope_freqs.weight")->elements(), config.head_dim / 2);
}

TEST(GgufWriter, SymmetricFormsAreLossless) {
  for (const char* text : {"w4a8:g32", "int4:g64", "int4:row", "int8:g32", "int8:row"}) {
    const test::TestFolder folder;
    LanguageModel model = test::tiny_model(test::tiny_config());
    pack_all(model, format(text), "embed", format("int8:g32"));
    write_gguf_model(model, folder / "m.gguf");
    EXPECT_EQ(values_of(import::load_language_model(folder / "m.gguf")), values_of(model)) << text;
  }
}

TEST(GgufWriter, BlocksOfAGgufPassThrough) {
  const test::TestFolder folder;
  LanguageModel model = test::tiny_model(test::tiny_config());
  pack_all(model, format("int4:g32"), "embed", format("int8:g32"));
  write_gguf_model(model, folder / "a.gguf");
  write_gguf_model(import::load_language_model(folder / "a.gguf"), folder / "b.gguf");
  const io::GgufFile a = io::read_gguf(folder / "a.gguf"), b = io::read_gguf(folder / "b.gguf");
  const auto *x = a.find_tensor("blk.1.attn_q.weight"), *y = b.find_tensor("blk.1.attn_q.weight");
  EXPECT_EQ(y->dtype, DType::kQ4_0);
  EXPECT_EQ(std::memcmp(x->bytes.data(), y->bytes.data(), x->bytes.size()), 0);
}

TEST(GgufWriter, WhatWouldLoseNamesTheTensorAndTheSetting) {
  const test::TestFolder folder;
  LanguageModel model = test::tiny_model(test::tiny_config());
  pack_all(model, format("int4:g32:asym"), "embed", format("int8:g32"));
  test::expect_error(ErrorCode::kUnsupported, {"q_proj"}, [&] { write_gguf_model(model, folder / "m.gguf"); });
  EXPECT_FALSE(std::filesystem::exists(folder / "m.gguf"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgufWriter, NeedsATokenizer) {
  const test::TestFolder folder;
  LanguageModel model = test::tiny_model(test::tiny_config());
  model.tokenizer.reset();
  test::expect_error(ErrorCode::kUnsupported, {"tokenizer"}, [&] { write_gguf_model(model, folder / "m.gguf"); });
}

TEST(PackageWriter, KeepsEveryWeightAndTheRecipe) {
  const test::TestFolder folder;
  LanguageModel model = test::tiny_model(test::tiny_config("llama", false));
  const auto formats = pack_all(model, format("w4a8:g32"), "down_proj", format("f16"));
  const std::vector<std::byte> tokens(7, std::byte{3});
  write_package(model, formats, {{"scale", "search"}}, tokens, folder / "m.plk");
  const io::Package package = io::Package::open(folder / "m.plk");
  EXPECT_EQ(package.metadata().recipe["scale"], "search");
  EXPECT_EQ(package.metadata().formats, formats);
  EXPECT_EQ(package.blob("calibration_tokens").size(), 7u);
  EXPECT_TRUE(package.damaged_blocks().empty());
  EXPECT_EQ(values_of(import::load_language_model(folder / "m.plk")), values_of(model));
}

// What is recorded as pruned is stored without its zeros, in the form of its pattern, unless that is larger.
TEST(PackageWriter, StoresPrunedMatricesCompressed) {
  const test::TestFolder folder;
  LanguageModel model = test::tiny_model(test::tiny_config("llama", false));
  const auto formats = pack_all(model, format("w4a8:g32"), "embed", format("int8:g32"));
  const auto prune = [&](const std::string& name, graph::ZeroPattern pattern, int64_t of, int64_t keep) {
    graph::Value& value = model.graph.value(*model.graph.find(name));
    codec::QuantizedMatrix m = codec::unpack(std::get<EncodedTensor>(*value.weight));
    for (size_t i = 0; i < m.codes.size(); ++i) {
      if (static_cast<int64_t>(i) % of >= keep) m.codes[i] = 0;
    }
    value.weight = codec::pack(m);
    value.zeros = pattern;
  };
  prune("model.layers.0.mlp.up_proj.weight", {}, 4, 1);
  prune("model.layers.0.mlp.gate_proj.weight", {2, 4}, 4, 2);
  prune("model.layers.0.mlp.down_proj.weight", {4, 8}, 2, 1);
  prune("model.layers.1.mlp.up_proj.weight", {}, 100, 99);
  write_package(model, formats, {}, {}, folder / "m.plk");

  const io::Package package = io::Package::open(folder / "m.plk");
  const auto form = [&](const char* name) { return io::to_string(package.format(name)); };
  EXPECT_EQ(form("model.layers.0.mlp.up_proj.weight"), "w4a8:g32:bitmask");
  EXPECT_EQ(form("model.layers.0.mlp.gate_proj.weight"), "w4a8:g32:2of4");
  EXPECT_EQ(form("model.layers.0.mlp.down_proj.weight"), "w4a8:g32:bitmask");
  EXPECT_EQ(form("model.layers.1.mlp.up_proj.weight"), "w4a8:g32");
  EXPECT_EQ(form("model.layers.1.mlp.down_proj.weight"), "w4a8:g32");
  const auto dense = package.stored_bytes("model.layers.1.mlp.gate_proj.weight");
  EXPECT_LE(static_cast<double>(package.stored_bytes("model.layers.0.mlp.gate_proj.weight")),
            0.8 * static_cast<double>(dense));
  const LanguageModel again = import::load_language_model(folder / "m.plk");
  EXPECT_EQ(values_of(again), values_of(model));
  const auto zeros = [&](const char* name) { return again.graph.value(*again.graph.find(name)).zeros; };
  EXPECT_EQ(zeros("model.layers.0.mlp.up_proj.weight"), graph::ZeroPattern{});
  EXPECT_EQ(zeros("model.layers.0.mlp.gate_proj.weight"), (graph::ZeroPattern{2, 4}));
  EXPECT_FALSE(zeros("model.layers.1.mlp.down_proj.weight").has_value());
}

TEST(PackageWriter, RefusesDenseMatrices) {
  const test::TestFolder folder;
  LanguageModel model = test::tiny_model(test::tiny_config());
  auto formats = pack_all(model, format("int8:row"));
  model.graph.value(*model.graph.find("model.layers.1.mlp.up_proj.weight")).weight =
      test::random_tensor({"x", "", 96, 64, false}, at::kFloat);
  test::expect_error(ErrorCode::kInvalidArgument, {"up_proj", "F32"},
                     [&] { write_package(model, formats, {}, {}, folder / "m.plk"); });
}

// A norm of a few checkpoints is F64; both formats keep vectors as F32.
TEST(Writers, F64VectorsAreKeptOrRefusedButNotRounded) {
  const test::TestFolder folder;
  LanguageModel model = test::tiny_model(test::tiny_config());
  const auto formats = pack_all(model, format("int8:g32"));
  graph::Value& norm = model.graph.value(*model.graph.find("model.layers.1.input_layernorm.weight"));
  at::Tensor values = std::get<at::Tensor>(*norm.weight).to(at::kDouble);
  norm.weight = values;
  norm.type = graph::ElementType::kF64;
  write_gguf_model(model, folder / "m.gguf");
  write_package(model, formats, {}, {}, folder / "m.plk");
  EXPECT_EQ(values_of(import::load_language_model(folder / "m.gguf")), values_of(model));
  EXPECT_EQ(values_of(import::load_language_model(folder / "m.plk")), values_of(model));

  values[7] = 0.1;
  const auto refused = [&](const std::function<void()>& write) {
    test::expect_error(ErrorCode::kUnsupported, {"model.layers.1.input_layernorm.weight", "F64", "element 7, 0.1"}, write);
  };
  refused([&] { write_gguf_model(model, folder / "no.gguf"); });
  refused([&] { write_package(model, formats, {}, {}, folder / "no.plk"); });
  EXPECT_FALSE(std::filesystem::exists(folder / "no.gguf"));
  EXPECT_FALSE(std::filesystem::exists(folder / "no.plk"));
}

TEST(HfWriter, LargeModelsAreSplit) {
  const test::TestFolder folder;
  const LanguageModel model = test::tiny_model(test::tiny_config("llama", false));
  write_hf_folder(model, folder / "m", {.shard_bytes = 30000});
  EXPECT_FALSE(std::filesystem::exists(folder / "m" / "model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(folder / "m" / "model.safetensors.index.json"));
  EXPECT_EQ(values_of(import::load_language_model(folder / "m")), values_of(model));
}

TEST(HfWriter, BlocksAreDequantizedExactly) {
  const test::TestFolder folder;
  LanguageModel model = test::tiny_model(test::tiny_config());
  pack_all(model, format("int4:g32"), "embed", format("int8:g32"));
  write_gguf_model(model, folder / "m.gguf");
  write_hf_folder(import::load_language_model(folder / "m.gguf"), folder / "m");
  const LanguageModel back = import::load_language_model(folder / "m");
  EXPECT_EQ(values_of(back), values_of(model));
}

// Code, scale and zero point of each weight of a packed linear operator, whatever the groups they are stored in, and
// whether its input is rounded; by name.
struct Quantized {
  codec::DType dtype;
  bool int8_activations;
  std::vector<std::tuple<int8_t, uint16_t, uint8_t>> weights;
  bool operator==(const Quantized&) const = default;
};
std::map<std::string, Quantized> quantized_of(const LanguageModel& model) {
  std::map<std::string, Quantized> out;
  for (const graph::Node& node : model.graph.nodes()) {
    const auto weight = graph::linear_weight(model.graph, node);
    if (!weight) continue;
    const graph::Value& value = model.graph.value(weight->value);
    const EncodedTensor tensor = encoded_view(*value.weight);
    if (tensor.dtype != DType::kTileInt4 && tensor.dtype != DType::kTileInt8) continue;
    Quantized& q = out[value.name];
    q.dtype = tensor.dtype;
    q.int8_activations = node.input_quant == graph::ActivationQuant::kInt8PerToken32;
    const codec::QuantizedMatrix m = codec::unpack(tensor);
    for (int64_t i = 0; i < m.rows * m.cols; ++i) {
      const int64_t group = i / m.cols * m.groups_per_row() + i % m.cols / m.group_size;
      q.weights.emplace_back(m.codes[i], m.scales[group], m.symmetric() ? 0 : m.zeros[group]);
    }
  }
  return out;
}

class Compressed : public ::testing::TestWithParam<const char*> {};

TEST_P(Compressed, ReadsBackBitForBit) {
  const test::TestFolder folder;
  for (const bool tied : {true, false}) {
    io::DecoderConfig config = test::tiny_config("llama", tied);
    config.hidden_size = 576;  // in groups of 128: 4 and a half
    LanguageModel model = test::tiny_model(config);
    pack_all(model, format(GetParam()), "embed", format("int8:g32"));
    write_hf_folder(model, folder / "m");
    const LanguageModel back = import::load_language_model(folder / "m");
    EXPECT_EQ(values_of(back), values_of(model));
    // A tied head is an embedding too, which no compressed form has.
    auto want = quantized_of(model);
    if (tied) want.erase("model.embed_tokens.weight");
    EXPECT_EQ(want.empty(), format(GetParam()).dtype == DType::kTileF16);
    EXPECT_TRUE(quantized_of(back) == want);
  }
}
INSTANTIATE_TEST_SUITE_P(Formats, Compressed,
                         ::testing::Values("int4:g32", "int4:g64", "int4:g128", "int4:g32:asym", "int4:g128:asym", "int4:row",
                                           "int4:row:asym", "int8:g32", "int8:row", "w8a8:row", "w4a8:g32", "f16"));

TEST(HfWriter, MixedFormsReadBack) {
  const test::TestFolder folder;
  LanguageModel model = test::tiny_model(test::tiny_config());
  pack_all(model, format("int4:g64"), "down_proj", format("w8a8:row"));
  write_hf_folder(model, folder / "m");
  EXPECT_EQ(values_of(import::load_language_model(folder / "m")), values_of(model));
}

}  // namespace
}  // namespace packlight::deploy

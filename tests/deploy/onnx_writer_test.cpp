// Weights, names and files of written models.
#include "deploy/onnx_writer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "codec/tile.h"
#include "deploy/onnx_checks.h"
#include "error_code.h"
#include "exec/executor.h"
#include "exec/tensor_compare.h"
#include "import/onnx.h"
#include "packlight/error.h"
#include "tiny_language_model.h"

namespace packlight {
namespace {

namespace fs = std::filesystem;
using namespace test;
using deploy::OnnxOptions;
using deploy::OnnxWeights;
using graph::Dim;
using graph::ElementType;
using graph::Shape;
using graph::ValueId;
using Builder = GraphBuilder;

TEST(OnnxWriter, KeepsNamesDimensionsAndHead) {
  TempDir folder;
  Builder b;
  const ValueId x = b.input("x", {Dim("batch"), Dim(), 4});
  b.graph.outputs = b.node("Sigmoid", {x}, {"y"}, {}, {Dim("batch"), Dim(), 4});
  b.graph.value(b.graph.outputs[0]).shape.reset();
  OnnxOptions options;
  options.producer_version = "1.2";
  options.metadata = {{"alphabet", "abc"}};
  const int64_t ir_versions[] = {7, 8, 8, 10, 11};
  for (size_t i = 0; i < std::size(kOpsets); ++i) {
    options.opset = kOpsets[i];
    deploy::write_onnx(b.graph, folder / "m.onnx", options);
    const onnx::ModelProto m = read_model(folder / "m.onnx");
    EXPECT_EQ(m.ir_version(), ir_versions[i]);
    EXPECT_EQ(m.opset_import(0).version(), kOpsets[i]);
    EXPECT_EQ(m.opset_import_size(), 1);
    EXPECT_EQ(m.producer_name() + " " + m.producer_version(), "packlight 1.2");
    EXPECT_EQ(m.metadata_props(0).key() + "=" + m.metadata_props(0).value(), "alphabet=abc");
    EXPECT_EQ(m.graph().node(0).name(), "node.y");
    const auto& shape = m.graph().input(0).type().tensor_type().shape();
    EXPECT_EQ(shape.dim(0).dim_param(), "batch");
    EXPECT_FALSE(shape.dim(1).has_dim_param() || shape.dim(1).has_dim_value());
    EXPECT_EQ(shape.dim(2).dim_value(), 4);
    EXPECT_FALSE(m.graph().output(0).type().tensor_type().has_shape());
  }
}

TEST(OnnxWriter, BlockedDequantizeRaisesTheOpset) {
  TempDir folder;
  Builder b;
  b.graph.outputs =
      b.node("DequantizeLinear",
             {b.weight("q", at::ones({2, 8}, at::kChar)), b.weight("s", at::ones({2, 2}))}, {"y"},
             {{"axis", int64_t{1}}, {"block_size", int64_t{4}}}, {2, 8});
  const auto report = deploy::write_onnx(b.graph, folder / "m.onnx");
  EXPECT_EQ(report.opset, 21);
  ASSERT_EQ(report.notices.size(), 1);
  EXPECT_EQ(report.notices[0].substr(0, 20), "written at opset 21:");
  // Who asks for another opset gets it or an error.
  test::expect_error(ErrorCode::kUnsupported,
                     {"opset 17", "by blocks", "least opset for that is 21"}, [&] {
                       deploy::OnnxOptions exact;
                       exact.exact_opset = true;
                       deploy::write_onnx(b.graph, folder / "exact.onnx", exact);
                     });
  EXPECT_FALSE(fs::exists(folder / "exact.onnx"));
}

// A convolution's codes of 3 bits, an odd number of them, with their zero points: INT4 in the file,
// and read back as 4-bit codes.
TEST(OnnxWriter, NarrowDequantizeGoesAsInt4) {
  PACKLIGHT_NEEDS(oracle_python());
  Builder b;
  const ValueId x = b.input("x", {Dim("batch"), 1, 5, 5});
  const at::Tensor codes = (at::arange(27).remainder(8) - 4).to(at::kChar).reshape({3, 1, 3, 3});
  const ValueId w = b.node("DequantizeLinear",
                           {b.weight("codes", codes), b.weight("scales", at::rand({3}) + 0.5),
                            b.weight("zeros", at::zeros({3}, at::kChar))},
                           {"w"}, {{"axis", int64_t{0}}, {"bits", int64_t{3}}}, {3, 1, 3, 3})[0];
  b.graph.outputs = b.node("Conv", {x, w}, {"y"}, {}, {Dim("batch"), 3, 3, 3});
  TempDir folder;
  const auto report = deploy::write_onnx(b.graph, folder / "m.onnx");
  EXPECT_EQ(report.opset, 21);
  const onnx::ModelProto model = read_model(folder / "m.onnx");
  for (const onnx::TensorProto& tensor : model.graph().initializer()) {
    if (tensor.name() == "scales") continue;
    EXPECT_EQ(tensor.data_type(), 22) << tensor.name();  // INT4
    EXPECT_EQ(tensor.raw_data().size(), tensor.name() == "codes" ? 14u : 2u);
  }
  const graph::Graph again = import::load_onnx(folder / "m.onnx").graph;
  EXPECT_EQ(again.node(0).integer("bits", 0), 4);
  EXPECT_TRUE(at::equal(std::get<at::Tensor>(*again.value(*again.find("codes")).weight), codes));
  expect_as_executed(b.graph, {{"x", noise({2, 1, 5, 5}, 3)}}, {OnnxOptions{}}, kRounding);
}

// Codes that something else reads, too, keep the type that it takes.
TEST(OnnxWriter, NarrowCodesUsedOtherwiseStayInt8) {
  Builder b;
  const ValueId codes = b.weight("codes", at::ones({4}, at::kChar));
  const ValueId zero = b.weight("zero", at::zeros({}, at::kChar));
  const ValueId scale = b.weight("scale", at::ones({}));
  b.graph.outputs =
      b.node("DequantizeLinear", {codes, scale, zero}, {"y"}, {{"bits", int64_t{4}}}, {4});
  b.graph.outputs.push_back(b.node("Cast", {codes}, {"z"}, {{"to", int64_t{1}}}, {4})[0]);
  TempDir folder;
  deploy::write_onnx(b.graph, folder / "m.onnx");
  const onnx::ModelProto model = read_model(folder / "m.onnx");
  for (const onnx::TensorProto& tensor : model.graph().initializer())
    if (tensor.name() != "scale") EXPECT_EQ(tensor.data_type(), onnx::TensorProto::INT8);
}

TEST(OnnxWriter, CodesThatFourBitsDoNotHoldAreRefused) {
  for (const int code : {-9, -8, 7, 8}) {
    Builder b;
    const ValueId codes = b.weight("codes", at::full({4}, code, at::kChar));
    b.graph.outputs = b.node("DequantizeLinear", {codes, b.weight("scale", at::ones({}))}, {"y"},
                             {{"bits", int64_t{4}}}, {4});
    TempDir folder;
    const auto write = [&] { deploy::write_onnx(b.graph, folder / "m.onnx"); };
    if (code == -8 || code == 7)
      EXPECT_NO_THROW(write());
    else
      test::expect_error(ErrorCode::kInvalidArgument, {"'codes'", std::to_string(code), "[-8, 7]"},
                         write);
  }
}

// x W^T and an embedding, W in tiles; 80 columns, so that the last group is a short one.
Builder tiles_graph(int bits, int64_t group_size, bool symmetric, bool gemm) {
  Builder b;
  const ValueId x = b.input("x", {Dim("batch"), 80});
  const auto codes = random_codes(24, 80, bits, group_size, symmetric);
  const ValueId w = b.graph.add_weight("layer.weight", codec::pack(codes));
  if (gemm) {
    b.graph.outputs =
        b.node("Gemm", {x, w, b.weight("bias", noise({24}, 5))}, {"y"},
               {{"transB", int64_t{1}}, {"alpha", 0.5}, {"beta", 2.0}}, {Dim("batch"), 24});
    return b;
  }
  const auto turned =
      b.node("Transpose", {w}, {"turned"}, {{"perm", std::vector<int64_t>{1, 0}}}, {80, 24});
  b.graph.outputs = b.node("MatMul", {x, turned[0]}, {"y"}, {}, {Dim("batch"), 24});
  return b;
}

TEST(OnnxWriter, TilesInEveryForm) {
  PACKLIGHT_NEEDS(oracle_python());
  exec::initialise(1);
  struct {
    int bits;
    int64_t group;
    bool symmetric;
  } const kForms[] = {{4, 32, true}, {4, 32, false}, {4, 0, true},  {4, 0, false},
                      {8, 32, true}, {8, 0, true},   {4, 64, false}};
  for (const auto& form : kForms) {
    for (const bool gemm : {false, true}) {
      if (gemm && form.group == 64) continue;
      const Builder b = tiles_graph(form.bits, form.group, form.symmetric, gemm);
      std::vector<OnnxOptions> variants;
      for (const auto weights : {OnnxWeights::kNBits, OnnxWeights::kQdq, OnnxWeights::kDequantize})
        variants.push_back({.opset = 17, .weights = weights});
      variants.push_back({.opset = 13});
      if (!gemm) {
        expect_as_executed(b.graph, {{"x", noise({3, 80}, 1)}}, variants, kRounding);
        continue;
      }
      TempDir folder;
      const fs::path dense = folder / "dense.onnx";
      deploy::write_onnx(b.graph, dense, {.weights = OnnxWeights::kDequantize});
      expect_same(b.graph, "batch=3", kRounding, dense, {.weights = OnnxWeights::kNBits});
    }
  }
}

TEST(OnnxWriter, PackedWeightsAreNotWrittenTwice) {
  TempDir folder;
  deploy::write_onnx(tiles_graph(4, 32, true, false).graph, folder / "m.onnx");
  const onnx::ModelProto m = read_model(folder / "m.onnx");
  ASSERT_EQ(m.graph().node_size(), 1);
  EXPECT_EQ(m.graph().node(0).op_type(), "MatMulNBits");
  EXPECT_EQ(m.graph().initializer_size(), 2);
  EXPECT_EQ(m.opset_import(1).domain(), "com.microsoft");
}

TEST(OnnxWriter, QdqOfWholeRowsNeedsNoBlocks) {
  TempDir folder;
  OnnxOptions options;
  options.weights = OnnxWeights::kQdq;
  EXPECT_EQ(
      deploy::write_onnx(tiles_graph(8, 0, true, false).graph, folder / "a.onnx", options).opset,
      17);
  EXPECT_EQ(
      deploy::write_onnx(tiles_graph(4, 0, true, false).graph, folder / "b.onnx", options).opset,
      21);
}

TEST(OnnxWriter, LanguageModelAtEveryOpset) {
  PACKLIGHT_NEEDS(oracle_python());
  exec::initialise(1);
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const import::LanguageModel model = tiny_model(tiny_config("llama", true), type);
    std::vector<OnnxOptions> variants;
    for (const int64_t opset : kOpsets) variants.push_back({.opset = opset});
    variants.push_back({.external_above_bytes = 1000});
    expect_as_executed(model.graph,
                       {{"input_ids", integers({1, 2, 3, 4, 5, 6, 7, 8}, {2, 4})},
                        {"position_ids", integers({0, 1, 2, 3, 0, 1, 2, 3}, {2, 4})}},
                       variants, kRounding);
  }
}

TEST(OnnxWriter, LargeWeightsLieBesideTheModel) {
  TempDir folder;
  Builder b;
  const ValueId x = b.input("x", {1, 200});
  const ValueId w = b.weight("w", noise({200, 200}, 1)),
                v = b.weight("v", noise({200}, 2).repeat({2}).slice(0, 0, 400, 2));
  const auto y = b.node("MatMul", {x, w}, {"y"}, {}, {1, 200});
  b.graph.outputs = b.node("Add", {y[0], v}, {"z"}, {}, {1, 200});
  const fs::path path = folder / "m.onnx", data = folder / "m.onnx.data";
  const auto report = deploy::write_onnx(b.graph, path, {.external_above_bytes = 100000});
  EXPECT_EQ(report.external_bytes, fs::file_size(data));
  const onnx::ModelProto m = read_model(path);
  ASSERT_EQ(m.graph().initializer(0).name(), "w");
  EXPECT_EQ(m.graph().initializer(0).external_data(0).value(), "m.onnx.data");
  EXPECT_EQ(std::stoll(m.graph().initializer(0).external_data(1).value()) % 4096, 0);
  EXPECT_TRUE(m.graph().initializer(1).has_raw_data());  // 800 bytes stay
  const import::OnnxNetwork network = import::load_onnx(path);
  EXPECT_TRUE(at::equal(std::get<at::Tensor>(*network.graph.value(*network.graph.find("w")).weight),
                        std::get<at::Tensor>(*b.graph.value(w).weight)));
  // A failure leaves both as they were.
  const auto model_before = read_file(path), data_before = read_file(data);
  b.graph.node(1).input_quant = graph::ActivationQuant::kInt8PerToken32;
  EXPECT_THROW(deploy::write_onnx(b.graph, path, {.external_above_bytes = 100000}), Error);
  EXPECT_EQ(read_file(path), model_before);
  EXPECT_EQ(read_file(data), data_before);
  b.graph.node(1).input_quant = graph::ActivationQuant::kNone;
  deploy::write_onnx(b.graph, path, {.external_above_bytes = 100000});  // again, over both
  EXPECT_EQ(read_file(data), data_before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 2);
}

}  // namespace
}  // namespace packlight

// Operators in the forms of older opsets, against what ONNX Runtime makes of those of opset 23.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "deploy/onnx_checks.h"
#include "deploy/onnx_writer.h"
#include "exec/executor.h"
#include "exec/tensor_compare.h"
#include "import/onnx.h"
#include "packlight/error.h"

namespace packlight {
namespace {

namespace fs = std::filesystem;
using namespace test;
using deploy::OnnxOptions;
using graph::Dim;
using graph::ElementType;
using graph::Shape;
using graph::ValueId;
using Builder = GraphBuilder;

TEST(OnnxDowngrade, NormalizationsAtEveryOpset) {
  PACKLIGHT_NEEDS(oracle_python());
  Builder b;
  const Shape shape{Dim("batch"), 6, 8};
  const ValueId x = b.input("x", shape);
  const ValueId scale = b.weight("scale", noise({8}, 1)), bias = b.weight("bias", noise({8}, 2));
  const ValueId scale2 = b.weight("scale2", noise({6, 8}, 3));
  const ValueId channels = b.weight("channels", noise({6}, 4));
  const auto layer =
      b.node("LayerNormalization", {x, scale, bias}, {"layer"}, {{"epsilon", 1e-3}}, shape);
  const auto wide =
      b.node("LayerNormalization", {x, scale2}, {"wide"}, {{"axis", int64_t{1}}}, shape);
  const auto rms = b.node("RMSNormalization", {x, scale}, {"rms"}, {{"axis", int64_t{-1}}}, shape);
  const auto group = b.node("GroupNormalization", {x, channels, channels}, {"group"},
                            {{"num_groups", int64_t{3}}}, shape);
  b.graph.outputs = {layer[0], wide[0], rms[0], group[0]};
  expect_same(b.graph, "batch=3");
}

TEST(OnnxDowngrade, ActivationsAtEveryOpset) {
  PACKLIGHT_NEEDS(oracle_python());
  Builder b;
  const Shape shape{Dim("batch"), 5, 7};
  const ValueId x = b.input("x", shape);
  b.graph.outputs = {
      b.node("Gelu", {x}, {"erf"}, {}, shape)[0],
      b.node("Gelu", {x}, {"tanh"}, {{"approximate", std::string("tanh")}}, shape)[0],
      b.node("HardSwish", {x}, {"swish"}, {}, shape)[0],
      b.node("Mish", {x}, {"mish"}, {}, shape)[0],
      b.node("Softsign", {x}, {"softsign"}, {}, shape)[0],
      b.node("ThresholdedRelu", {x}, {"thresholded"}, {{"alpha", 0.5}}, shape)[0],
      b.node("Trilu", {x}, {"upper"}, {}, shape)[0],
      b.node("Trilu", {x, b.weight("k", at::scalar_tensor(-1, at::kLong))}, {"lower"},
             {{"upper", int64_t{0}}}, shape)[0],
      b.node("CastLike", {x, b.weight("like", at::zeros({1}, at::kInt))}, {"cast"}, {}, shape,
             ElementType::kI32)[0]};
  expect_same(b.graph, "batch=2");
}

TEST(OnnxDowngrade, FormsOfOldOpsets) {
  PACKLIGHT_NEEDS(oracle_python());
  Builder b;
  const Shape shape{Dim("batch"), 5, 7};
  const ValueId x = b.input("x", shape);
  const ValueId axes = b.weight("axes", at::tensor({-1}, at::kLong));
  const ValueId pads = b.weight("pads", at::tensor({1, 2}, at::kLong));
  const auto parts =
      b.node("Split", {x}, {"first", "second"}, {{"axis", int64_t{1}}}, {Dim("batch"), Dim(), 7});
  b.graph.value(parts[0]).shape = Shape{Dim("batch"), 3, 7};
  b.graph.value(parts[1]).shape = Shape{Dim("batch"), 2, 7};
  b.graph.outputs = {
      parts[0],
      parts[1],
      b.node("ReduceMean", {x, axes}, {"mean"}, {}, {Dim("batch"), 5, 1})[0],
      b.node("ReduceMax", {x}, {"max"}, {{"keepdims", int64_t{0}}}, {})[0],
      b.node("ReduceProd", {x}, {"same"}, {{"noop_with_empty_axes", int64_t{1}}}, shape)[0],
      b.node("Pad", {x, pads, graph::kNone, axes}, {"padded"}, {}, {Dim("batch"), 5, 10})[0],
      b.node("Shape", {x}, {"dims"}, {{"start", int64_t{0}}, {"end", int64_t{-1}}}, {2},
             ElementType::kI64)[0]};
  expect_same(b.graph, "batch=2", 0);
}

TEST(OnnxDowngrade, QuantizationAtEveryOpset) {
  PACKLIGHT_NEEDS(oracle_python());
  Builder b;
  const Shape shape{Dim("batch"), 4};
  const ValueId x = b.input("x", shape), scale = b.weight("scale", at::ones({4}) * 0.1);
  const auto q =
      b.node("QuantizeLinear", {x, scale}, {"q"},
             {{"output_dtype", int64_t{onnx::TensorProto::INT8}}}, shape, ElementType::kI8);
  b.graph.outputs = {q[0], b.node("DequantizeLinear", {q[0], scale}, {"y"},
                                  {{"output_dtype", int64_t{onnx::TensorProto::FLOAT}}}, shape)[0]};
  expect_same(b.graph, "batch=3", 0);
}

TEST(OnnxDowngrade, ConvolutionNetworkAtEveryOpset) {
  PACKLIGHT_NEEDS(oracle_python());
  Builder b;
  const ValueId x = b.input("image", {Dim("batch"), 3, 12, 12});
  const ValueId w = b.weight("w", noise({8, 3, 3, 3}, 1).permute({0, 1, 3, 2}));  // strided
  const auto conv = b.node("Conv", {x, w, b.weight("b", noise({8}, 2))}, {"conv"},
                           {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}, {Dim("batch"), 8, 12, 12});
  const auto norm = b.node("BatchNormalization",
                           {conv[0], b.weight("s", noise({8}, 3)), b.weight("o", noise({8}, 4)),
                            b.weight("m", noise({8}, 5)), b.weight("v", noise({8}, 6).abs() + 1)},
                           {"norm"}, {{"training_mode", int64_t{0}}}, {Dim("batch"), 8, 12, 12});
  const auto relu = b.node("Relu", norm, {"relu"}, {}, {Dim("batch"), 8, 12, 12});
  const auto pool = b.node("AveragePool", relu, {"pool"},
                           {{"kernel_shape", std::vector<int64_t>{2, 2}},
                            {"strides", std::vector<int64_t>{2, 2}},
                            {"dilations", std::vector<int64_t>{1, 1}}},
                           {Dim("batch"), 8, 6, 6});
  const auto flat = b.node("Reshape", {pool[0], b.weight("to", at::tensor({0, -1}, at::kLong))},
                           {"flat"}, {}, {Dim("batch"), 288});
  const auto out = b.node("Gemm", {flat[0], b.weight("fc", noise({10, 288}, 7).to(at::kHalf))},
                          {"scores"}, {{"transB", int64_t{1}}}, {Dim("batch"), 10});
  b.graph.outputs = out;
  expect_same(b.graph, "batch=2");
}

Builder attention_graph(bool rank3, std::map<std::string, graph::Attribute> attributes, bool masked,
                        ElementType mask_type = ElementType::kF32) {
  Builder b;
  const Dim batch("batch"), length("length");
  const Shape q_shape = rank3 ? Shape{batch, length, 32} : Shape{batch, 4, length, 8};
  const Shape k_shape = rank3 ? Shape{batch, length, 16} : Shape{batch, 2, length, 8};
  const ValueId q = b.input("q", q_shape), k = b.input("k", k_shape), v = b.input("v", k_shape);
  std::vector<ValueId> inputs = {q, k, v};
  if (masked) inputs.push_back(b.input("mask", {length, length}, mask_type));
  if (rank3) {
    attributes["q_num_heads"] = int64_t{4};
    attributes["kv_num_heads"] = int64_t{2};
  }
  b.graph.outputs = b.node("Attention", inputs, {"y"}, attributes, q_shape);
  return b;
}

TEST(OnnxDowngrade, AttentionAtEveryOpset) {
  PACKLIGHT_NEEDS(oracle_python());
  const std::string dims = "batch=2,length=5";
  expect_same(attention_graph(true, {}, false).graph, dims);
  expect_same(attention_graph(false, {{"is_causal", int64_t{1}}, {"scale", 0.3}}, false).graph,
              dims);
  expect_same(attention_graph(true, {}, true).graph, dims);
  expect_same(attention_graph(true, {}, true, ElementType::kBool).graph, dims);
}

TEST(OnnxDowngrade, WindowedAttentionIsPlainOnnx) {
  PACKLIGHT_NEEDS(oracle_python());
  const Builder b =
      attention_graph(true, {{"is_causal", int64_t{1}}, {"local_window_size", int64_t{3}}}, false);
  std::vector<OnnxOptions> variants;
  for (const int64_t opset : kOpsets) variants.push_back({.opset = opset});
  expect_as_executed(
      b.graph,
      {{"q", noise({2, 7, 32}, 1)}, {"k", noise({2, 7, 16}, 2)}, {"v", noise({2, 7, 16}, 3)}},
      variants, kRounding);
}

// What a graph computes is what it computes written without Attention and read again.
void expect_same_when_read(const Graph& graph, const std::vector<Shape>& shapes) {
  std::unordered_map<std::string, at::Tensor> values;
  for (size_t i = 0; i < shapes.size(); ++i) {
    std::vector<int64_t> sizes;
    for (const Dim& dim : shapes[i]) sizes.push_back(dim.value);
    values[graph.value(graph.inputs[i]).name] = noise(sizes, static_cast<int>(i));
  }
  TempDir folder;
  deploy::write_onnx(graph, folder / "m.onnx", {.opset = 17});
  const Graph again = import::load_onnx(folder / "m.onnx").graph;
  const at::Tensor want = exec::Executor(graph).run(values).at("y"),
                   got = exec::Executor(again).run(values).at("y");
  EXPECT_TRUE(at::allclose(got, want, 1e-5, 1e-6)) << got << want;
}

Builder small_attention(std::map<std::string, graph::Attribute> attributes, int64_t queries,
                        int64_t keys) {
  Builder b;
  const Shape q{1, 1, queries, 4}, k{1, 1, keys, 4};
  b.graph.outputs = b.node("Attention", {b.input("q", q), b.input("k", k), b.input("v", k)}, {"y"},
                           std::move(attributes), q);
  return b;
}

// The last of five queries see none of two keys: zeros, as from a mask.
TEST(OnnxDowngrade, AWindowMayHideEveryKey) {
  expect_same_when_read(small_attention({{"local_window_size", int64_t{2}}}, 5, 2).graph,
                        {{1, 1, 5, 4}, {1, 1, 2, 4}, {1, 1, 2, 4}});
}

// A scale of zero is not the same as none.
TEST(OnnxDowngrade, AttentionOfScaleZeroIsUniform) {
  expect_same_when_read(small_attention({{"scale", 0.0}}, 3, 2).graph,
                        {{1, 1, 3, 4}, {1, 1, 2, 4}, {1, 1, 2, 4}});
}

TEST(OnnxDowngrade, RotaryEmbeddingAtEveryOpset) {
  PACKLIGHT_NEEDS(oracle_python());
  Builder b;
  const Dim batch("batch"), length("length");
  const ValueId rows = b.input("rows", {batch, length, 32});
  const ValueId heads = b.input("heads", {batch, 4, length, 8});
  const ValueId positions = b.input("positions", {batch, length}, ElementType::kI64);
  const ValueId cosine = b.weight("cos", noise({4, 4}, 1)),
                sine = b.weight("sin", noise({4, 4}, 2));
  const ValueId cosine2 = b.weight("cos2", noise({4, 2}, 3)),
                sine2 = b.weight("sin2", noise({4, 2}, 4));
  b.graph.outputs = {b.node("RotaryEmbedding", {rows, cosine, sine, positions}, {"a"},
                            {{"num_heads", int64_t{4}}}, {batch, length, 32})[0],
                     b.node("RotaryEmbedding", {heads, cosine, sine, positions}, {"b"},
                            {{"interleaved", int64_t{1}}}, {batch, 4, length, 8})[0],
                     b.node("RotaryEmbedding", {heads, cosine2, sine2, positions}, {"c"},
                            {{"rotary_embedding_dim", int64_t{4}}, {"num_heads", int64_t{4}}},
                            {batch, 4, length, 8})[0]};
  expect_same(b.graph, "batch=2,length=3");
}

// Captured values become outer names again, hidden names are changed.
TEST(OnnxDowngrade, ControlFlow) {
  PACKLIGHT_NEEDS(oracle_python());
  for (const int opset : {13, 17, 21}) {
    TempDir folder;
    const fs::path original = folder / "original.onnx";
    run_oracle("check_onnx.py", "fixture control " + quoted(original) + std::to_string(opset));
    const import::OnnxNetwork network = import::load_onnx(original);
    expect_same(network.graph, "batch=3", 0, original);
  }
}

TEST(OnnxDowngrade, RefusesWhatAnOpsetLacks) {
  TempDir folder;
  const auto refused = [&](Builder& b, int64_t opset, const std::string& words) {
    OnnxOptions options;
    options.opset = opset;
    try {
      deploy::write_onnx(b.graph, folder / "m.onnx", options);
      ADD_FAILURE() << "written, should say: " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
    EXPECT_TRUE(fs::is_empty(folder.path()));
  };
  Builder pool;
  pool.graph.outputs = pool.node(
      "AveragePool", {pool.input("x", {1, 1, 9, 9})}, {"y"},
      {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"dilations", std::vector<int64_t>{2, 2}}},
      {1, 1, 7, 7});
  refused(pool, 18,
          "node 'node.y' (AveragePool): attribute 'dilations' needs opset 19 or newer, not 18");
  Builder any;
  any.graph.outputs = any.node("ReduceMax", {any.input("x", {4}, ElementType::kBool)}, {"y"}, {},
                               {1}, ElementType::kBool);
  refused(any, 18, "element type BOOL needs opset 20");
  Builder resize;
  resize.graph.outputs = resize.node(
      "Resize", {resize.input("x", {1, 1, 4, 4}), graph::kNone, resize.weight("s", at::ones({4}))},
      {"y"}, {{"antialias", int64_t{1}}}, {1, 1, 4, 4});
  refused(resize, 17, "attribute 'antialias' needs opset 18");
  Builder quantized;
  quantized.graph.outputs = quantized.node(
      "MatMul", {quantized.input("x", {2, 4}), quantized.weight("w", at::ones({4, 3}))}, {"y"}, {},
      {2, 3});
  quantized.graph.node(0).input_quant = graph::ActivationQuant::kInt8PerToken32;
  refused(quantized, 17, "activations are quantized");
  EXPECT_THROW(deploy::write_onnx(pool.graph, folder / "m.onnx", {.opset = 12}), Error);
  EXPECT_THROW(deploy::write_onnx(pool.graph, folder / "m.onnx", {.opset = 24}), Error);
}

}  // namespace
}  // namespace packlight

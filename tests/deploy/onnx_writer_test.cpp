// Written ONNX files, read by the onnx package's checker and run by ONNX Runtime.
#include "deploy/onnx_writer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "codec/tile.h"
#include "deploy/onnx_tensor_store.h"
#include "error_code.h"
#include "exec/executor.h"
#include "exec/tensor_compare.h"
#include "graph/weight.h"
#include "import/onnx.h"
#include "temp_dir.h"
#include "text/run_oracle.h"
#include "tiny_language_model.h"

namespace packlight {
namespace {

namespace fs = std::filesystem;
using deploy::OnnxOptions;
using deploy::OnnxWeights;
using graph::Dim;
using graph::ElementType;
using graph::Graph;
using graph::Shape;
using graph::ValueId;
using test::noise;
using test::TempDir;

constexpr int64_t kOpsets[] = {13, 17, 18, 21, 23};
// Sums of at most a few hundred terms in another order, as a share of the output's range.
constexpr double kRounding = 256 * std::numeric_limits<float>::epsilon();

// A graph built by hand: types and shapes are given, so that no shape rule is needed.
struct Builder {
  Graph graph;
  ValueId input(const std::string& name, Shape shape, ElementType type = ElementType::kF32) {
    return graph.add_input(name, type, std::move(shape));
  }
  ValueId weight(const std::string& name, at::Tensor tensor) {
    return graph.add_weight(name, std::move(tensor));
  }
  std::vector<ValueId> node(const std::string& op, std::vector<ValueId> inputs,
                            std::vector<std::string> outputs,
                            std::map<std::string, graph::Attribute> attributes, Shape shape,
                            ElementType type = ElementType::kF32) {
    const auto made = graph.add_node(op, "node." + outputs[0], std::move(inputs), outputs,
                                     std::move(attributes), "");
    for (const ValueId id : made) {
      graph.value(id).type = type;
      graph.value(id).shape = shape;
    }
    return made;
  }
};

// The largest difference the oracle reports for each file.
std::vector<double> differences(const std::string& printed) {
  std::vector<double> found;
  std::istringstream lines(printed);
  for (std::string line; std::getline(lines, line);) {
    const size_t at = line.rfind(' ');
    if (line.find(" difference ") != std::string::npos) found.push_back(std::stod(line.substr(at)));
  }
  return found;
}

std::string quoted(const fs::path& path) { return "'" + path.string() + "' "; }

void expect_close(const std::string& arguments, size_t files, double bound) {
  const std::string printed = test::run_oracle("check_onnx.py", arguments);
  std::cout << printed;
  const auto found = differences(printed);
  EXPECT_EQ(found.size(), files);
  for (const double difference : found) EXPECT_LE(difference, bound) << printed;
}

// Writes at every opset (what an opset refuses is an error of the test), and compares with
// `original`, by default what is written at opset 23.
void expect_same(const Graph& graph, const std::string& dims, double bound = kRounding,
                 fs::path original = {}, OnnxOptions options = {}) {
  TempDir folder;
  std::string files;
  for (const int64_t opset : kOpsets) {
    const fs::path path = folder / ("opset" + std::to_string(opset) + ".onnx");
    options.opset = opset;
    EXPECT_EQ(deploy::write_onnx(graph, path, options).opset, opset);
    files += quoted(path);
    if (opset == 23 && original.empty()) original = path;
  }
  expect_close("compare " + quoted(original) + "'" + dims + "' " + files, std::size(kOpsets),
               bound);
}

// The same against what exec/ computes.
void expect_as_executed(const Graph& graph, std::unordered_map<std::string, at::Tensor> values,
                        const std::vector<OnnxOptions>& variants, double bound) {
  TempDir folder;
  exec::Executor executor(graph);
  for (auto& [name, tensor] : executor.run(values)) values[name] = tensor;
  onnx::GraphProto data;
  deploy::OnnxTensorStore store(nullptr, "");
  for (const auto& [name, value] : values) {
    const at::Tensor dense = value.contiguous();
    store.add(data, name,
              static_cast<int>(graph::to_onnx_type(graph::from_scalar_type(dense.scalar_type()))),
              dense.sizes().vec(),
              {static_cast<const std::byte*>(dense.data_ptr()), dense.nbytes()});
  }
  test::write_file(folder / "data.pb", std::string_view(data.SerializeAsString()));
  std::string files;
  for (size_t i = 0; i < variants.size(); ++i) {
    const fs::path path = folder / ("variant" + std::to_string(i) + ".onnx");
    const auto report = deploy::write_onnx(graph, path, variants[i]);
    for (const std::string& notice : report.notices) std::cout << "notice: " << notice << "\n";
    files += quoted(path);
  }
  expect_close("against " + quoted(folder / "data.pb") + files, variants.size(), bound);
}

onnx::ModelProto read_model(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  onnx::ModelProto proto;
  EXPECT_TRUE(proto.ParseFromIstream(&in));
  return proto;
}

TEST(OnnxWriter, NormalizationsAtEveryOpset) {
  PACKLIGHT_NEEDS(test::oracle_python());
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

TEST(OnnxWriter, ActivationsAtEveryOpset) {
  PACKLIGHT_NEEDS(test::oracle_python());
  Builder b;
  const Shape shape{Dim("batch"), 5, 7};
  const ValueId x = b.input("x", shape);
  b.graph.outputs = {
      b.node("Gelu", {x}, {"erf"}, {}, shape)[0],
      b.node("Gelu", {x}, {"tanh"}, {{"approximate", std::string("tanh")}}, shape)[0],
      b.node("HardSwish", {x}, {"swish"}, {}, shape)[0],
      b.node("Trilu", {x}, {"upper"}, {}, shape)[0],
      b.node("Trilu", {x, b.weight("k", at::scalar_tensor(-1, at::kLong))}, {"lower"},
             {{"upper", int64_t{0}}}, shape)[0],
      b.node("CastLike", {x, b.weight("like", at::zeros({1}, at::kInt))}, {"cast"}, {}, shape,
             ElementType::kI32)[0]};
  expect_same(b.graph, "batch=2");
}

TEST(OnnxWriter, FormsOfOldOpsets) {
  PACKLIGHT_NEEDS(test::oracle_python());
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

TEST(OnnxWriter, QuantizationAtEveryOpset) {
  PACKLIGHT_NEEDS(test::oracle_python());
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

TEST(OnnxWriter, ConvolutionNetworkAtEveryOpset) {
  PACKLIGHT_NEEDS(test::oracle_python());
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

TEST(OnnxWriter, AttentionAtEveryOpset) {
  PACKLIGHT_NEEDS(test::oracle_python());
  const std::string dims = "batch=2,length=5";
  expect_same(attention_graph(true, {}, false).graph, dims);
  expect_same(attention_graph(false, {{"is_causal", int64_t{1}}, {"scale", 0.3}}, false).graph,
              dims);
  expect_same(attention_graph(true, {}, true).graph, dims);
  expect_same(attention_graph(true, {}, true, ElementType::kBool).graph, dims);
}

TEST(OnnxWriter, WindowedAttentionIsPlainOnnx) {
  PACKLIGHT_NEEDS(test::oracle_python());
  const Builder b =
      attention_graph(true, {{"is_causal", int64_t{1}}, {"local_window_size", int64_t{3}}}, false);
  std::vector<OnnxOptions> variants;
  for (const int64_t opset : kOpsets) variants.push_back({.opset = opset});
  expect_as_executed(
      b.graph,
      {{"q", noise({2, 7, 32}, 1)}, {"k", noise({2, 7, 16}, 2)}, {"v", noise({2, 7, 16}, 3)}},
      variants, kRounding);
}

TEST(OnnxWriter, RotaryEmbeddingAtEveryOpset) {
  PACKLIGHT_NEEDS(test::oracle_python());
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
TEST(OnnxWriter, ControlFlow) {
  PACKLIGHT_NEEDS(test::oracle_python());
  for (const int opset : {13, 17, 21}) {
    TempDir folder;
    const fs::path original = folder / "original.onnx";
    test::run_oracle("check_onnx.py",
                     "fixture control " + quoted(original) + std::to_string(opset));
    const import::OnnxNetwork network = import::load_onnx(original);
    expect_same(network.graph, "batch=3", 0, original);
  }
}

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

TEST(OnnxWriter, RefusesWhatAnOpsetLacks) {
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
  EXPECT_EQ(report.notices[0].substr(0, 27), "written at opset 21, not 17");
}

// x W^T and an embedding, W in tiles; 80 columns, so that the last group is a short one.
Builder tiles_graph(int bits, int64_t group_size, bool symmetric, bool gemm) {
  Builder b;
  const ValueId x = b.input("x", {Dim("batch"), 80});
  const auto codes = test::random_codes(24, 80, bits, group_size, symmetric);
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
  PACKLIGHT_NEEDS(test::oracle_python());
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
  PACKLIGHT_NEEDS(test::oracle_python());
  exec::initialise(1);
  for (const at::ScalarType type : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const import::LanguageModel model = test::tiny_model(test::tiny_config("llama", true), type);
    std::vector<OnnxOptions> variants;
    for (const int64_t opset : kOpsets) variants.push_back({.opset = opset});
    variants.push_back({.external_above_bytes = 1000});
    expect_as_executed(model.graph,
                       {{"input_ids", test::integers({1, 2, 3, 4, 5, 6, 7, 8}, {2, 4})},
                        {"position_ids", test::integers({0, 1, 2, 3, 0, 1, 2, 3}, {2, 4})}},
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
  const auto model_before = test::read_file(path), data_before = test::read_file(data);
  b.graph.node(1).input_quant = graph::ActivationQuant::kInt8PerToken32;
  EXPECT_THROW(deploy::write_onnx(b.graph, path, {.external_above_bytes = 100000}), Error);
  EXPECT_EQ(test::read_file(path), model_before);
  EXPECT_EQ(test::read_file(data), data_before);
  b.graph.node(1).input_quant = graph::ActivationQuant::kNone;
  deploy::write_onnx(b.graph, path, {.external_above_bytes = 100000});  // again, over both
  EXPECT_EQ(test::read_file(data), data_before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 2);
}

}  // namespace
}  // namespace packlight

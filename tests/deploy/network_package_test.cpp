#include "deploy/network_package.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "codec/half.h"
#include "codec/tile.h"
#include "error_code.h"
#include "exec/executor.h"
#include "import/onnx.h"
#include "io/network_package.h"
#include "runtime/network/engine.h"
#include "temp_dir.h"

namespace packlight::deploy {
namespace {

using test::expect_error;
using test::TempDir;

codec::EncodedTensor packed_matrix(bool symmetric) {
  codec::QuantizedMatrix m;
  m.rows = 20;
  m.cols = 40;
  m.group_size = 32;
  for (int64_t i = 0; i < m.rows * m.cols; ++i)
    m.codes.push_back(static_cast<int8_t>(symmetric ? i * 7 % 16 - 8 : i * 7 % 16));
  m.scales.assign(m.rows * m.groups_per_row(), codec::f32_to_f16(0.25f));
  if (!symmetric) m.zeros.assign(m.scales.size(), 5);
  return codec::pack(m);
}

// y = x W, then one of two branches by the sign of a number: packed, dense F16 and I64
// weights, subgraphs with a weight of their own, a tensor attribute.
graph::Graph sample(bool symmetric) {
  graph::Graph g;
  g.name = "sample";
  const auto x = g.add_input("x", graph::ElementType::kF32, {graph::Dim("batch"), 20});
  const auto condition = g.add_input("condition", graph::ElementType::kBool, {});
  const auto w = g.add_weight("w", packed_matrix(symmetric));
  const auto half = g.add_weight("half", at::full({40}, 0.5, at::kHalf));
  const auto y = g.add_node("MatMul", "multiply", {x, w}, {"y"}, {}, "");
  const auto z = g.add_node("Add", "add", {y[0], half}, {"z"}, {}, "");
  const auto branch = [](const char* op) {
    auto b = std::make_shared<graph::Graph>();
    b->name = op;
    const auto in = b->add_input("z", graph::ElementType::kF32, {graph::Dim("batch"), 40});
    const auto two = b->add_weight("w", at::full({1}, 2, at::kFloat));  // a name of the outer graph
    b->outputs = b->add_node(op, "op", {in, two}, {"out"}, {}, "");
    return b;
  };
  const auto chosen =
      g.add_node("If", "choose", {condition, z[0]}, {"chosen"},
                 {{"then_branch", branch("Mul")}, {"else_branch", branch("Sub")}}, "");
  g.node(static_cast<graph::NodeId>(g.nodes().size()) - 1).captures = 1;
  const auto shape = g.add_node("Shape", "shape", {chosen[0]}, {"shape_of"}, {}, "");
  const auto filled = g.add_node("ConstantOfShape", "fill", {shape[0]}, {"filled"},
                                 {{"value", at::full({1}, 7, at::kFloat)}}, "");
  g.outputs = {g.add_node("Add", "sum", {chosen[0], filled[0]}, {"sum_out"}, {}, "")[0]};
  graph::infer_shapes(g);
  graph::verify(g);
  return g;
}

class NetworkPackageTest : public testing::TestWithParam<bool> {};

TEST_P(NetworkPackageTest, GraphToPackageToGraph) {
  const TempDir dir;
  const graph::Graph want = sample(GetParam());
  NetworkPackageNotes notes;
  notes.recipe = {{"weights", "int4"}};
  notes.preprocess = {{"scale", 2}};
  notes.metadata = {{"character", "ab\nc"}};
  write_network_package(want, notes, dir / "x.plk");
  const import::OnnxNetwork got = import::load_network_package(dir / "x.plk");
  EXPECT_EQ(got.metadata, notes.metadata);
  EXPECT_EQ(got.opset, 23);
  // Dense floats become F32, which is what arithmetic is in.
  std::string text = graph::to_text(want);
  const size_t half = text.find("half:F16");
  ASSERT_NE(half, std::string::npos);
  EXPECT_EQ(graph::to_text(got.graph), text.replace(half, 8, "half:F32"));
  const auto weight = got.graph.find("w");
  const auto* packed = std::get_if<codec::EncodedTensor>(&*got.graph.value(*weight).weight);
  ASSERT_NE(packed, nullptr);
  EXPECT_EQ(packed->dtype, codec::DType::kTileInt4);
  EXPECT_EQ(packed->symmetric(), GetParam());
}

TEST_P(NetworkPackageTest, TheEngineGivesWhatTheExecutorGives) {
  exec::initialise(1);
  const TempDir dir;
  const graph::Graph graph = sample(GetParam());
  write_network_package(graph, {}, dir / "x.plk");
  const io::NetworkPackage package = io::NetworkPackage::open(dir / "x.plk");
  runtime::Engine engine(package.network(), std::make_shared<base::ThreadPool>(2));
  for (const bool condition : {true, false}) {
    const at::Tensor x = at::randn({3, 20}), flag = at::full({}, condition, at::kBool);
    const at::Tensor want =
        exec::Executor(graph).run({{"x", x}, {"condition", flag}}).at("sum_out");
    const std::vector<runtime::Tensor> inputs = {
        {codec::DType::kF32, {3, 20}, static_cast<std::byte*>(x.data_ptr()), nullptr},
        {codec::DType::kBool, {}, static_cast<std::byte*>(flag.data_ptr()), nullptr}};
    engine.run(inputs);
    const runtime::Tensor& got = engine.output(0);
    ASSERT_EQ(got.dims, (std::vector<int64_t>{3, 40}));
    const at::Tensor values = at::from_blob(got.data, {3, 40}, at::kFloat);
    // 20 products and as many sums, each rounded once, of magnitudes below 4 |x| in F32.
    const double bound = 40 * 0x1p-24 * 4 * x.abs().sum(1).max().item<double>();
    EXPECT_LE((values - want).abs().max().item<double>(), bound);
  }
}

INSTANTIATE_TEST_SUITE_P(Packing, NetworkPackageTest, testing::Bool());

TEST(NetworkPackageWriterTest, RefusesWhatTheRuntimeCannotRun) {
  const TempDir dir;
  graph::Graph g;
  const auto x = g.add_input("x", graph::ElementType::kF32, {2});
  g.outputs = g.add_node("Relu", "act", {x}, {"y"}, {}, "");
  g.node(0).input_quant = graph::ActivationQuant::kInt8PerToken32;
  expect_error(ErrorCode::kUnsupported, {"'act'", "per token"},
               [&] { write_network_package(g, {}, dir / "x.plk"); });
  g.node(0).input_quant = graph::ActivationQuant::kNone;
  g.node(0).op = "Frobnicate";
  expect_error(ErrorCode::kUnsupported, {"'act'", "Frobnicate"},
               [&] { write_network_package(g, {}, dir / "x.plk"); });
  EXPECT_FALSE(std::filesystem::exists(dir / "x.plk"));
}

TEST(NetworkPackageReaderTest, RefusesAGraphThatIsNotOne) {
  const TempDir dir;
  io::Network network;
  network.values = {{"x", std::nullopt, std::nullopt, std::nullopt},
                    {"y", std::nullopt, std::nullopt, std::nullopt}};
  network.nodes = {{"sum", "Add", "", {0}, {1}, {}, 0}};  // Add takes two
  network.inputs = {0};
  network.outputs = {1};
  io::write_network_package(dir / "x.plk", network, {});
  expect_error(ErrorCode::kCorrupt, {"x.plk", "'sum'", "1 inputs"},
               [&] { import::load_network_package(dir / "x.plk"); });
}

}  // namespace
}  // namespace packlight::deploy

#include "graph/graph.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graph/error_of.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

using test::contains;
using test::error_of;

// y = x W^T + b, then Identity in another block.
Graph linear_graph() {
  Graph graph;
  graph.name = "tiny";
  const ValueId x = graph.add_input("x", ElementType::kF32, {std::string("n"), 3});
  const ValueId w = graph.add_weight("w", at::ones({2, 3}));
  const ValueId b = graph.add_weight("b", at::ones({2}));
  const ValueId t =
      graph.add_node("Transpose", "t", {w}, {"wt"}, {{"perm", std::vector<int64_t>{1, 0}}}, "a")[0];
  const ValueId y = graph.add_node("MatMul", "fc", {x, t}, {"xw"}, {}, "a")[0];
  const ValueId z = graph.add_node("Add", "bias", {y, b}, {"y"}, {}, "a")[0];
  graph.outputs = graph.add_node("Identity", "out", {z}, {"z"}, {}, "b");
  return graph;
}

TEST(GraphTest, WellFormedGraphVerifies) {
  const Graph graph = linear_graph();
  EXPECT_EQ(error_of([&] { verify(graph); }), "");
  EXPECT_EQ(graph.find("xw"), std::optional<ValueId>(graph.node(1).outputs[0]));
  EXPECT_EQ(graph.find("nothing"), std::nullopt);
}

TEST(GraphTest, NamesAreTakenOnce) {
  Graph graph = linear_graph();
  EXPECT_TRUE(contains(error_of([&] { graph.add_weight("w", at::ones({1})); }), "'w' is taken"));
  EXPECT_TRUE(contains(error_of([&] { graph.add_weight("", at::ones({1})); }), "InvalidArgument"));
  EXPECT_TRUE(contains(error_of([&] {
                         graph.add_node("Add", "a", {0, 99}, {"q"}, {}, "");
                       }),
                       "99 is no value"));
}

// Each rule, broken alone.
struct Breach {
  const char* name;
  void (*break_it)(Graph&);
  const char* message;
};
class VerifyTest : public ::testing::TestWithParam<Breach> {};

TEST_P(VerifyTest, BrokenRuleIsNamed) {
  Graph graph = linear_graph();
  GetParam().break_it(graph);
  const std::string error = error_of([&] { verify(graph); });
  EXPECT_TRUE(contains(error, "Corrupt: "));
  EXPECT_TRUE(contains(error, GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, VerifyTest,
    ::testing::Values(
        Breach{"renamed", [](Graph& g) { g.value(0).name = "other"; }, "renamed"},
        Breach{"same_name", [](Graph& g) { g.value(1).name = "x"; }, "two values are named 'x'"},
        Breach{"no_name", [](Graph& g) { g.value(1).name = ""; }, "no name"},
        Breach{"node_no_name", [](Graph& g) { g.node(1).name = ""; },
               "node 1 (MatMul) has no name"},
        Breach{"node_same_name", [](Graph& g) { g.node(1).name = "t"; }, "two nodes are named 't'"},
        Breach{"input_range", [](Graph& g) { g.node(1).inputs[0] = 77; }, "id 77 is no value"},
        Breach{"input_negative", [](Graph& g) { g.node(1).inputs[0] = -5; }, "id -5 is no value"},
        Breach{"input_absent", [](Graph& g) { g.node(1).inputs[1] = kNone; },
               "input 1 may not be absent"},
        Breach{"order", [](Graph& g) { g.node(0).inputs[0] = *g.find("y"); },
               "'y' is used before it is made"},
        Breach{"too_few_inputs", [](Graph& g) { g.node(1).inputs.pop_back(); },
               "1 inputs, the operator takes 2 to 2"},
        Breach{"too_many_outputs", [](Graph& g) { g.node(3).outputs.push_back(kNone); },
               "2 outputs"},
        Breach{"made_twice", [](Graph& g) { g.node(3).outputs[0] = *g.find("y"); },
               "'y' is made twice"},
        Breach{"producer", [](Graph& g) { g.value(*g.find("y")).producer = 0; },
               "names node 0 as its producer"},
        Breach{"output_range", [](Graph& g) { g.outputs = {1000}; }, "graph output: id 1000"},
        Breach{"output_not_made", [](Graph& g) { g.outputs = {g.add_value({.name = "loose"})}; },
               "'loose' is made by no node"},
        Breach{"input_made", [](Graph& g) { g.inputs.push_back(*g.find("y")); },
               "'y' is also the output"},
        Breach{"input_twice", [](Graph& g) { g.inputs.push_back(g.inputs[0]); },
               "'x' is listed twice"},
        Breach{"weight_made", [](Graph& g) { g.value(*g.find("w")).producer = 0; },
               "'w' is also the output"},
        Breach{"weight_shape",
               [](Graph& g) {
                 g.value(*g.find("w")).shape = Shape{3, 2};
               },
               "declared [3, 2] but holds [2, 3]"},
        Breach{"weight_type", [](Graph& g) { g.value(*g.find("w")).type = ElementType::kI64; },
               "declared I64 but holds F32"},
        Breach{"weight_undefined", [](Graph& g) { g.value(*g.find("w")).weight = at::Tensor(); },
               "holds no tensor"},
        Breach{"weight_bytes",
               [](Graph& g) {
                 codec::EncodedTensor encoded;
                 encoded.rows = 2, encoded.cols = 3;
                 g.value(*g.find("w")).weight = encoded;
               },
               "w"}),
    [](const auto& info) { return info.param.name; });

TEST(GraphTest, LinearWeightIsSeenThroughTranspose) {
  const Graph graph = linear_graph();
  const auto weight = linear_weight(graph, graph.node(1));
  ASSERT_TRUE(weight.has_value());
  EXPECT_EQ(weight->value, *graph.find("w"));
  EXPECT_TRUE(weight->transposed);
  EXPECT_FALSE(linear_weight(graph, graph.node(2)).has_value());
}

TEST(GraphTest, GemmWeightFollowsTransB) {
  for (const int64_t trans_b : {0, 1}) {
    Graph graph;
    const ValueId x = graph.add_input("x", ElementType::kF32, {2, 3});
    const ValueId w = graph.add_weight("w", at::ones({3, 3}));
    graph.outputs = graph.add_node("Gemm", "g", {x, w}, {"y"}, {{"transB", trans_b}}, "");
    const auto weight = linear_weight(graph, graph.node(0));
    ASSERT_TRUE(weight.has_value());
    EXPECT_EQ(weight->transposed, trans_b == 1);
  }
}

TEST(GraphTest, ProductOfTwoActivationsIsNotLinear) {
  Graph graph;
  const ValueId x = graph.add_input("x", ElementType::kF32, {3, 3});
  graph.outputs = graph.add_node("MatMul", "m", {x, x}, {"y"}, {}, "");
  EXPECT_FALSE(linear_weight(graph, graph.node(0)).has_value());
}

TEST(GraphTest, BlocksAreConsecutiveRanges) {
  const auto ranges = blocks(linear_graph());
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges[0].name, "a");
  EXPECT_EQ(ranges[0].begin, 0);
  EXPECT_EQ(ranges[0].end, 3);
  EXPECT_EQ(ranges[1].name, "b");
  EXPECT_EQ(ranges[1].end, 4);
  EXPECT_TRUE(blocks(Graph()).empty());
}

TEST(GraphTest, TextHasALineForEachNode) {
  Graph graph = linear_graph();
  infer_shapes(graph);
  graph.node(1).input_quant = ActivationQuant::kInt8PerToken32;
  EXPECT_EQ(to_text(graph),
            "graph 'tiny'\n"
            "input x:F32[n, 3]\n"
            "block a\n"
            "  t = Transpose(w:F32[2, 3]; perm=[1, 0]) -> wt:F32[3, 2]\n"
            "  fc = MatMul(x, wt) input_quant=int8_per_token_32 -> xw:F32[n, 2]\n"
            "  bias = Add(xw, b:F32[2]) -> y:F32[n, 2]\n"
            "block b\n"
            "  out = Identity(y) -> z:F32[n, 2]\n"
            "output z:F32[n, 2]\n");
}

TEST(GraphTest, AttributeOfAnotherTypeIsCorrupt) {
  Graph graph = linear_graph();
  graph.node(0).attributes["perm"] = std::string("10");
  EXPECT_TRUE(contains(error_of([&] { infer_shapes(graph); }),
                       "attribute 'perm' is not a list of integers"));
}

TEST(WeightTest, TypesAndOnnxNumbersRoundTrip) {
  for (const ElementType type :
       {ElementType::kF32, ElementType::kF16, ElementType::kBF16, ElementType::kF64,
        ElementType::kI64, ElementType::kI32, ElementType::kI16, ElementType::kI8, ElementType::kU8,
        ElementType::kBool}) {
    EXPECT_EQ(from_scalar_type(to_scalar_type(type)), type);
    EXPECT_EQ(from_onnx_type(to_onnx_type(type)), type);
  }
  EXPECT_TRUE(contains(error_of([] { from_onnx_type(0); }), "Unsupported"));
  EXPECT_TRUE(contains(error_of([] { from_scalar_type(at::kComplexFloat); }), "Unsupported"));
  EXPECT_TRUE(contains(error_of([] { to_scalar_type(ElementType::kString); }), "Unsupported"));
}

TEST(WeightTest, ConstantIntegersAreIntegerWeightsOnly) {
  Graph graph;
  const ValueId axes = graph.add_weight("axes", at::arange(3, at::kInt));
  const ValueId floats = graph.add_weight("floats", at::ones({3}));
  const ValueId matrix = graph.add_weight("matrix", at::ones({3, 1}, at::kLong));
  EXPECT_EQ(constant_integers(graph, axes), (std::optional<std::vector<int64_t>>({0, 1, 2})));
  EXPECT_EQ(constant_integers(graph, floats), std::nullopt);
  EXPECT_EQ(constant_integers(graph, matrix), std::nullopt);
  EXPECT_EQ(constant_integers(graph, kNone), std::nullopt);
}

}  // namespace
}  // namespace packlight::graph

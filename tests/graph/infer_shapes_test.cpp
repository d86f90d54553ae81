#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graph/error_of.h"
#include "graph/graph.h"
#include "graph/one_node.h"

namespace packlight::graph {
namespace {

using test::contains;
using test::error_of;
using Attributes = std::map<std::string, Attribute>;

TEST(InferShapesTest, Broadcasting) {
  EXPECT_EQ(OneNode().input({n, 1, 4}).input({3, 1}).run("Add"), "[n, 3, 4]");
  EXPECT_EQ(OneNode().input({n}).input({n}).run("Mul"), "[n]");
  EXPECT_EQ(OneNode().input({n}).input({m}).run("Mul"), "[?]");
  EXPECT_EQ(OneNode().input({n}).input({5}).run("Div"), "[5]");
  EXPECT_EQ(OneNode().input({n}).input({}).run("Sub"), "[n]");
  EXPECT_EQ(OneNode().input({n}).unknown_rank().run("Sub"), "unknown");
  EXPECT_TRUE(
      contains(OneNode().input({2}).input({3}).run("Add"), "shapes [2] and [3] do not broadcast"));
  EXPECT_TRUE(contains(OneNode().input({2}).input({2}, ElementType::kI64).run("Add"),
                       "F32 and I64 differ"));
}

TEST(InferShapesTest, FloatWeightsOfAnyStorageTakePartAsF32) {
  EXPECT_EQ(OneNode().input({n, 2}).weight(at::ones({2}, at::kHalf)).run("Add"), "[n, 2]");
}

TEST(InferShapesTest, UnaryAndCast) {
  for (const char* op : {"Sigmoid", "Cos", "Sin", "Identity", "Softmax"}) {
    EXPECT_EQ(OneNode().input({n, 3}).run(op), "[n, 3]") << op;
  }
  EXPECT_TRUE(contains(OneNode().input({n, 3}).run("Softmax", {{"axis", int64_t{2}}}), "axis 2"));
  OneNode cast;
  EXPECT_EQ(cast.input({n}, ElementType::kI64).run("Cast", {{"to", int64_t{1}}}), "[n]");
  EXPECT_EQ(cast.graph().value(cast.graph().outputs[0]).type, ElementType::kF32);
  EXPECT_TRUE(contains(OneNode().input({n}).run("Cast", {{"to", int64_t{99}}}), "99"));
}

TEST(InferShapesTest, Products) {
  EXPECT_EQ(OneNode().input({n, m, 4}).input({4, 5}).run("MatMul"), "[n, m, 5]");
  EXPECT_EQ(OneNode().input({4}).input({4, 5}).run("MatMul"), "[5]");
  EXPECT_EQ(OneNode().input({n, 4}).input({4}).run("MatMul"), "[n]");
  EXPECT_EQ(OneNode().input({7, 1, 2, 4}).input({n, 4, 3}).run("MatMul"), "[7, n, 2, 3]");
  EXPECT_TRUE(
      contains(OneNode().input({n, 4}).input({5, 4}).run("MatMul"), "inner dimensions differ"));
  EXPECT_TRUE(contains(OneNode().input({}).input({5}).run("MatMul"), "scalar"));
  EXPECT_EQ(OneNode().input({n, 4}).input({5, 4}).input({5}).run("Gemm", {{"transB", int64_t{1}}}),
            "[n, 5]");
  EXPECT_EQ(OneNode().input({4, n}).input({4, 5}).run("Gemm", {{"transA", int64_t{1}}}), "[n, 5]");
  EXPECT_TRUE(
      contains(OneNode().input({2, 4}).input({5, 4}).run("Gemm"), "inner dimensions differ"));
  EXPECT_TRUE(contains(OneNode().input({2, 4}).input({4, 5}).input({4}).run("Gemm"), "broadcast"));
}

TEST(InferShapesTest, TransposeAndGather) {
  EXPECT_EQ(OneNode().input({n, 3, m}).run("Transpose"), "[m, 3, n]");
  EXPECT_EQ(OneNode().input({n, 3, m}).run("Transpose", {{"perm", list({1, 0, 2})}}), "[3, n, m]");
  EXPECT_TRUE(
      contains(OneNode().input({n, 3}).run("Transpose", {{"perm", list({0, 0})}}), "permutation"));
  EXPECT_TRUE(
      contains(OneNode().input({n, 3}).run("Transpose", {{"perm", list({0})}}), "1 entries"));
  EXPECT_EQ(OneNode().input({100, 8}).input({n, m}, ElementType::kI64).run("Gather"), "[n, m, 8]");
  EXPECT_EQ(
      OneNode().input({5, 8}).input({}, ElementType::kI64).run("Gather", {{"axis", int64_t{-1}}}),
      "[5]");
  EXPECT_TRUE(contains(
      OneNode().input({5}).input({}, ElementType::kI64).run("Gather", {{"axis", int64_t{1}}}),
      "axis 1"));
}

TEST(InferShapesTest, SqueezeAndUnsqueeze) {
  EXPECT_EQ(OneNode().input({n, 4}).constant({0, -1}).run("Unsqueeze"), "[1, n, 4, 1]");
  EXPECT_TRUE(contains(OneNode().input({n}).constant({1, -2}).run("Unsqueeze"), "given twice"));
  EXPECT_EQ(OneNode().input({n, 1, 1}).constant({-2}).run("Squeeze"), "[n, 1]");
  EXPECT_EQ(OneNode().input({2, 1, 1}).run("Squeeze"), "[2]");
  EXPECT_EQ(OneNode().input({n, 1}).run("Squeeze"), "unknown");
  EXPECT_TRUE(contains(OneNode().input({n, 2}).constant({1}).run("Squeeze"), "not of size 1"));
}

TEST(InferShapesTest, Reshape) {
  EXPECT_EQ(OneNode().input({6, 4}).constant({2, -1}).run("Reshape"), "[2, 12]");
  EXPECT_EQ(OneNode().input({n, m, 12}).constant({0, 0, 3, -1}).run("Reshape"), "[n, m, 3, 4]");
  EXPECT_EQ(OneNode().input({n, 12}).constant({-1, 12}).run("Reshape"), "[n, 12]");
  EXPECT_EQ(OneNode().input({n, 12}).constant({-1}).run("Reshape"), "[?]");
  EXPECT_EQ(OneNode().input({n, 12}).input({3}, ElementType::kI64).run("Reshape"), "[?, ?, ?]");
  EXPECT_TRUE(
      contains(OneNode().input({6, 4}).constant({5, -1}).run("Reshape"), "does not reshape"));
  EXPECT_TRUE(
      contains(OneNode().input({6, 4}).constant({5, 5}).run("Reshape"), "does not reshape"));
  EXPECT_TRUE(contains(OneNode().input({6}).constant({-1, -1}).run("Reshape"), "two dimensions"));
  EXPECT_TRUE(contains(OneNode().input({6}).constant({6, 0}).run("Reshape"), "absent"));
  EXPECT_TRUE(contains(OneNode().input({6}).constant({-2}).run("Reshape"), "is -2"));
}

TEST(InferShapesTest, ConcatSliceSplit) {
  EXPECT_EQ(OneNode().input({n, 2}).input({n, 3}).run("Concat", {{"axis", int64_t{1}}}), "[n, 5]");
  EXPECT_EQ(OneNode().input({n, 2}).input({m, 2}).run("Concat", {{"axis", int64_t{0}}}), "[?, 2]");
  EXPECT_TRUE(
      contains(OneNode().input({4, 2}).input({4, 3}).run("Concat"), "differ outside axis 0"));
  EXPECT_EQ(OneNode().input({10, n}).constant({2}).constant({-1}).run("Slice"), "[7, n]");
  EXPECT_EQ(
      OneNode().input({10, n}).constant({9}).constant({-100}).constant({0}).constant({-2}).run(
          "Slice"),
      "[5, n]");
  EXPECT_EQ(OneNode().input({10, n}).constant({0}).constant({3}).constant({1}).run("Slice"),
            "[10, ?]");
  EXPECT_TRUE(contains(
      OneNode().input({10}).constant({0}).constant({3}).constant({0}).constant({0}).run("Slice"),
      "step 0"));
  EXPECT_TRUE(contains(OneNode().input({10, 4}).constant({0, 1}).constant({3}).run("Slice"),
                       "differ in length"));
  EXPECT_EQ(OneNode().input({7, n}).run("Split", {}, 3), "[3, n] [3, n] [1, n]");
  EXPECT_EQ(OneNode().input({n, 5}).constant({1, 4}).run("Split", {{"axis", int64_t{1}}}, 2),
            "[n, 1] [n, 4]");
  EXPECT_TRUE(contains(OneNode().input({5}).constant({1, 3}).run("Split", {}, 2), "add up to 4"));
  EXPECT_TRUE(contains(OneNode().input({5}).constant({5}).run("Split", {}, 2),
                       "1 split sizes for 2 outputs"));
}

TEST(InferShapesTest, TransformerOperators) {
  EXPECT_EQ(OneNode().input({n, 8}).input({8}).run("RMSNormalization"), "[n, 8]");
  EXPECT_TRUE(contains(OneNode().input({n, 8}).input({7}).run("RMSNormalization"), "broadcast"));
  const Attributes rotary{{"num_heads", int64_t{2}}};
  EXPECT_EQ(
      OneNode().input({n, m, 16}).input({n, m, 4}).input({n, m, 4}).run("RotaryEmbedding", rotary),
      "[n, m, 16]");
  EXPECT_TRUE(contains(
      OneNode().input({n, m, 16}).input({n, m, 8}).input({n, m, 8}).run("RotaryEmbedding", rotary),
      "cache"));
  EXPECT_TRUE(
      contains(OneNode().input({n, m, 16}).input({n, m, 4}).input({n, m, 4}).run("RotaryEmbedding"),
               "num_heads is 0"));
  EXPECT_TRUE(contains(
      OneNode().input({n, m, 15}).input({n, m, 4}).input({n, m, 4}).run("RotaryEmbedding", rotary),
      "does not divide"));
  const Attributes heads{{"q_num_heads", int64_t{4}}, {"kv_num_heads", int64_t{2}}};
  EXPECT_EQ(OneNode().input({n, m, 32}).input({n, m, 16}).input({n, m, 10}).run("Attention", heads),
            "[n, m, 20]");
  EXPECT_EQ(OneNode().input({2, 4, m, 8}).input({2, 2, 9, 8}).input({2, 2, 9, 6}).run("Attention"),
            "[2, 4, m, 6]");
  EXPECT_TRUE(contains(
      OneNode().input({n, m, 32}).input({n, m, 12}).input({n, m, 16}).run("Attention", heads),
      "do not fit"));
  EXPECT_TRUE(contains(
      OneNode().input({n, m, 30}).input({n, m, 16}).input({n, m, 16}).run("Attention", heads),
      "does not divide"));
  EXPECT_TRUE(contains(
      OneNode().input({1, 3, m, 8}).input({1, 2, m, 8}).input({1, 2, m, 8}).run("Attention"),
      "no multiple"));
}

TEST(InferShapesTest, DeclaredShapesMustAgree) {
  OneNode one;
  one.input({n, 3});
  EXPECT_EQ(one.run("Identity"), "[n, 3]");
  one.graph().value(one.graph().outputs[0]).shape = Shape{2, 3};
  EXPECT_EQ(error_of([&] { infer_shapes(one.graph()); }), "");  // n may be 2
  one.graph().value(one.graph().outputs[0]).shape = Shape{2, 4};
  EXPECT_TRUE(contains(error_of([&] { infer_shapes(one.graph()); }),
                       "declared [2, 4], but the operator makes [n, 3]"));
}

TEST(InferShapesTest, UnknownOperatorIsUnsupported) {
  EXPECT_TRUE(contains(OneNode().input({1}).run("Frobnicate"),
                       "Unsupported: [graph] node 'node': no shape rule"));
}

}  // namespace
}  // namespace packlight::graph

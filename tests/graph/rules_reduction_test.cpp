#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graph/error_of.h"
#include "graph/one_node.h"
#include "graph/graph.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

using test::contains;
using test::error_of;
using Attributes = std::map<std::string, Attribute>;

const Attributes kDrop{{"keepdims", int64_t{0}}};

// The shape of the first output, or the error; `second` is the constant second input.
std::string inferred(const char* op, Shape shape, std::optional<std::vector<int64_t>> second,
                     Attributes attributes = {}, ElementType type = ElementType::kF32) {
  Graph graph;
  std::vector<ValueId> inputs{graph.add_input("x", type, std::move(shape))};
  if (second) inputs.push_back(graph.add_weight("second", at::tensor(*second, at::kLong)));
  std::vector<std::string> names{"y"};
  if (std::string_view(op) == "TopK") names.push_back("indices");
  const auto out = graph.add_node(op, "node", inputs, names, std::move(attributes), "");
  const std::string error = error_of([&] { infer_shapes(graph); });
  if (!error.empty()) return error;
  const Value& value = graph.value(out[0]);
  return value.shape ? to_string(*value.shape) : "unknown";
}
using List = std::vector<int64_t>;

TEST(RulesReductionTest, Axes) {
  EXPECT_EQ(inferred("ReduceMean", {n, 3, 4}, List{-1, 1}), "[n, 1, 1]");
  EXPECT_EQ(inferred("ReduceMean", {n, 3, 4}, List{-1, 1}, kDrop), "[n]");
  EXPECT_EQ(inferred("ReduceMax", {n, 3}, std::nullopt), "[1, 1]");
  EXPECT_EQ(inferred("ReduceMax", {n, 3}, std::nullopt, kDrop), "[]");
  EXPECT_EQ(inferred("ReduceMax", {n, 3}, std::nullopt, {{"noop_with_empty_axes", int64_t{1}}}),
            "[n, 3]");
  EXPECT_TRUE(contains(inferred("ReduceSum", {n, 3}, List{2}), "axis 2 is outside"));
  EXPECT_TRUE(contains(inferred("ReduceSum", {n, 3}, List{1, -1}), "given twice"));
  EXPECT_TRUE(contains(inferred("ReduceSum", {n}, std::nullopt, {}, ElementType::kBool),
                       "input 0 is BOOL"));
  EXPECT_EQ(inferred("ReduceMax", {n}, std::nullopt, {}, ElementType::kBool), "[1]");
}

TEST(RulesReductionTest, AxesThatAreUnknown) {
  for (const bool keep : {true, false}) {
    Graph graph;
    const ValueId x = graph.add_input("x", ElementType::kF32, {n, 3});
    const ValueId axes = graph.add_input("axes", ElementType::kI64, {1});
    const auto out =
        graph.add_node("ReduceSum", "node", {x, axes}, {"y"}, {{"keepdims", int64_t{keep}}}, "");
    infer_shapes(graph);
    const auto& shape = graph.value(out[0]).shape;
    EXPECT_EQ(shape ? to_string(*shape) : "unknown", keep ? "[?, ?]" : "unknown");
  }
}

TEST(RulesReductionTest, PlacesAndOrders) {
  EXPECT_EQ(inferred("ArgMax", {n, 3}, std::nullopt, {{"axis", int64_t{-1}}}), "[n, 1]");
  EXPECT_TRUE(contains(inferred("ArgMin", {0, 3}, std::nullopt), "is empty"));
  EXPECT_TRUE(contains(inferred("ArgMin", {}, std::nullopt), "axis 0 is outside"));
  EXPECT_EQ(inferred("TopK", {n, 8}, List{5}), "[n, 5]");
  EXPECT_EQ(inferred("TopK", {n, 8}, List{5}, {{"axis", int64_t{0}}}), "[5, 8]");
  EXPECT_TRUE(contains(inferred("TopK", {n, 8}, List{9}), "k is 9"));
  EXPECT_TRUE(contains(inferred("TopK", {n, 8}, List{1, 2}), "k has 2 elements"));
  EXPECT_EQ(inferred("CumSum", {n, 8}, List{1}), "[n, 8]");
  EXPECT_TRUE(contains(inferred("CumSum", {n, 8}, List{2}), "axis 2 is outside"));
}

}  // namespace
}  // namespace packlight::graph

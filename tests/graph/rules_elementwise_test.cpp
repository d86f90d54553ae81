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

ValueId constant(Graph& graph, std::vector<int64_t> values) {
  return graph.add_weight(graph.free_name("constant"), at::tensor(values, at::kLong));
}
ValueId node(Graph& graph, const char* op, std::vector<ValueId> inputs,
             Attributes attributes = {}) {
  const std::string name = graph.free_name(op);
  return graph.add_node(op, name, std::move(inputs), {name}, std::move(attributes), "")[0];
}

// A graph whose input x is `shape`; `target` makes, from the shape of x, what x is reshaped to.
// What the reshaped x is inferred to be.
template <class Target>
std::string reshaped(Shape shape, Target target) {
  Graph graph;
  const ValueId x = graph.add_input("x", ElementType::kF32, std::move(shape));
  const ValueId out = node(graph, "Reshape", {x, target(graph, node(graph, "Shape", {x}))});
  graph.outputs = {out};
  const std::string error = error_of([&] { infer_shapes(graph); });
  if (!error.empty()) return error;
  return graph.value(out).shape ? to_string(*graph.value(out).shape) : "unknown";
}

// "TYPE[shape]" of one node's first output, or the error; inputs are types and shapes.
std::string inferred(const char* op, std::vector<std::pair<ElementType, Shape>> inputs,
                     Attributes attributes = {}) {
  Graph graph;
  std::vector<ValueId> ids;
  for (auto& [type, shape] : inputs)
    ids.push_back(graph.add_input("in" + std::to_string(ids.size()), type, std::move(shape)));
  const ValueId out = node(graph, op, ids, std::move(attributes));
  const std::string error = error_of([&] { infer_shapes(graph); });
  if (!error.empty()) return error;
  const Value& value = graph.value(out);
  return std::string(element_type_name(value.type)) +
         (value.shape ? to_string(*value.shape) : "unknown");
}

constexpr auto kF32 = ElementType::kF32, kI64 = ElementType::kI64, kBool = ElementType::kBool;

TEST(RulesElementwiseTest, ShapesComputedFromShapes) {
  // x: [n, 4, 6] -> [n, 4 * 6]
  EXPECT_EQ(
      reshaped({n, 4, 6},
               [](Graph& g, ValueId shape) {
                 const ValueId batch = node(g, "Gather", {shape, constant(g, {0})});
                 const ValueId a = node(g, "Gather", {shape, constant(g, {1})});
                 const ValueId b = node(g, "Gather", {shape, constant(g, {2})});
                 return node(g, "Concat", {batch, node(g, "Mul", {a, b})}, {{"axis", int64_t{0}}});
               }),
      "[n, 24]");
  // A symbol stays where it is multiplied by one.
  EXPECT_EQ(reshaped({n, 4},
                     [](Graph& g, ValueId shape) {
                       return node(g, "Mul", {shape, constant(g, {1, 1})});
                     }),
            "[n, 4]");
  EXPECT_EQ(reshaped({6, 4},
                     [](Graph& g, ValueId shape) {
                       const ValueId half = node(g, "Div", {shape, constant(g, {2, 1})});
                       return node(g, "Add", {half, constant(g, {0, 4})});
                     }),
            "[3, 8]");
  EXPECT_EQ(reshaped({6, 4},
                     [](Graph& g, ValueId shape) {
                       return node(g, "ReduceProd", {shape, constant(g, {0})});
                     }),
            "[24]");
}

TEST(RulesElementwiseTest, SymbolsAreNeverNegative) {
  // Where(shape == -1, 1, shape), as exporters write it before Expand.
  EXPECT_EQ(reshaped({n, 4},
                     [](Graph& g, ValueId shape) {
                       const ValueId open = node(g, "Equal", {shape, constant(g, {-1})});
                       return node(g, "Where", {open, constant(g, {1}), shape});
                     }),
            "[n, 4]");
}

TEST(RulesElementwiseTest, CastBetweenIntegersKeepsWhatFits) {
  const auto through = [](ElementType type, std::vector<int64_t> factors) {
    return reshaped({6, 4}, [&](Graph& g, ValueId shape) {
      const ValueId large = node(g, "Mul", {shape, constant(g, std::move(factors))});
      const ValueId there = node(g, "Cast", {large}, {{"to", to_onnx_type(type)}});
      const ValueId back = node(g, "Cast", {there}, {{"to", to_onnx_type(ElementType::kI64)}});
      return node(g, "Min", {back, constant(g, {24, 1})});
    });
  };
  EXPECT_EQ(through(ElementType::kI32, {4, 1}), "[24, 1]");
  // What overflows is unknown, not wrapped.
  EXPECT_EQ(through(ElementType::kI8, {1000, 1000}), "[?, ?]");
}

TEST(RulesElementwiseTest, DivisionByZeroIsUnknown) {
  EXPECT_EQ(reshaped({6, 4},
                     [](Graph& g, ValueId shape) {
                       return node(g, "Div", {shape, constant(g, {0, 0})});
                     }),
            "[?, ?]");
}

TEST(RulesElementwiseTest, Types) {
  EXPECT_EQ(inferred("Less", {{kF32, {n}}, {kF32, {}}}), "BOOL[n]");
  EXPECT_EQ(inferred("Pow", {{kI64, {n}}, {kF32, {2, 1}}}), "I64[2, n]");
  EXPECT_EQ(inferred("CastLike", {{kI64, {n}}, {ElementType::kF16, {}}}), "F32[n]");
  EXPECT_EQ(inferred("Where", {{kBool, {3, 1}}, {kI64, {n}}, {kI64, {}}}), "I64[3, n]");
  EXPECT_EQ(inferred("Max", {{kF32, {n, 1}}, {kF32, {3}}, {kF32, {}}}), "F32[n, 3]");
}

TEST(RulesElementwiseTest, Contradictions) {
  EXPECT_TRUE(contains(inferred("Sqrt", {{kI64, {n}}}), "input 0 is I64, not a float"));
  EXPECT_TRUE(contains(inferred("And", {{kBool, {n}}, {kF32, {n}}}), "input 1 is F32, not BOOL"));
  EXPECT_TRUE(contains(inferred("Add", {{kBool, {n}}, {kBool, {n}}}), "not a number"));
  EXPECT_TRUE(contains(inferred("Sum", {{kF32, {2}}, {kF32, {3}}}), "do not broadcast"));
  EXPECT_TRUE(contains(inferred("Where", {{kF32, {n}}, {kF32, {n}}, {kF32, {n}}}), "not BOOL"));
  EXPECT_TRUE(contains(inferred("Where", {{kBool, {n}}, {kF32, {n}}, {kI64, {n}}}), "differ"));
  EXPECT_TRUE(contains(inferred("Clip", {{kF32, {n}}, {kF32, {2}}}), "no single number"));
  EXPECT_TRUE(contains(inferred("PRelu", {{kF32, {2}}, {kF32, {3, 2}}}), "does not broadcast"));
  EXPECT_TRUE(contains(inferred("Gelu", {{kF32, {n}}}, {{"approximate", std::string("fast")}}),
                       "approximate is 'fast'"));
  EXPECT_TRUE(contains(inferred("Celu", {{kF32, {n}}}, {{"alpha", 0.0}}), "alpha is zero"));
}

}  // namespace
}  // namespace packlight::graph

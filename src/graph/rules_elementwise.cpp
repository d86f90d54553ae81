#include "graph/operator_rules.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

// One input, same type and shape out.
void infer_same(InferContext& context) { context.set(0, context.type(0), context.shape(0)); }

void infer_broadcast(InferContext& context) {
  const auto& a = context.shape(0);
  const auto& b = context.shape(1);
  const ElementType left = context.type(0), right = context.type(1);
  if (left != right && left != ElementType::kUndefined && right != ElementType::kUndefined) {
    context.contradiction("element types {} and {} differ", element_type_name(left),
                          element_type_name(right));
  }
  const ElementType type = left != ElementType::kUndefined ? left : right;
  context.set(0, type, a && b ? broadcast(context, *a, *b) : std::nullopt);
}

void infer_softmax(InferContext& context) {
  if (const auto& shape = context.shape(0)) {
    normalised_axis(context, context.node().integer("axis", -1),
                    static_cast<int64_t>(shape->size()));
  }
  infer_same(context);
}

void infer_cast(InferContext& context) {
  context.set(0, from_onnx_type(context.node().integer("to", 0)), context.shape(0));
}

constexpr OperatorRule kRules[] = {
    {"Add", 2, 2, 1, 1, infer_broadcast},   {"Sub", 2, 2, 1, 1, infer_broadcast},
    {"Mul", 2, 2, 1, 1, infer_broadcast},   {"Div", 2, 2, 1, 1, infer_broadcast},
    {"Sigmoid", 1, 1, 1, 1, infer_same},    {"Cos", 1, 1, 1, 1, infer_same},
    {"Sin", 1, 1, 1, 1, infer_same},        {"Identity", 1, 1, 1, 1, infer_same},
    {"Softmax", 1, 1, 1, 1, infer_softmax}, {"Cast", 1, 1, 1, 1, infer_cast},
};

}  // namespace

std::span<const OperatorRule> elementwise_rules() { return kRules; }

}  // namespace packlight::graph

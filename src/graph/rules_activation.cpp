#include "graph/operator_rules.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

// One float input, same type and shape out.
void infer_activation(InferContext& context) {
  const ElementType type = context.type(0);
  if (type != ElementType::kUndefined && !is_float(type))
    context.contradiction("input 0 is {}, not a float", element_type_name(type));
  context.set(0, type, context.shape(0));
}

// Integers, too.
void infer_relu(InferContext& context) {
  if (context.type(0) == ElementType::kBool) context.contradiction("input 0 is BOOL, not a number");
  context.set(0, context.type(0), context.shape(0));
}

void infer_gelu(InferContext& context) {
  const std::string kind = context.node().text("approximate", "none");
  if (kind != "none" && kind != "tanh") context.contradiction("approximate is '{}'", kind);
  infer_activation(context);
}

void infer_celu(InferContext& context) {
  if (context.node().number("alpha", 1) == 0) context.contradiction("alpha is zero");
  infer_activation(context);
}

// The slope broadcasts to the input, never the other way.
void infer_prelu(InferContext& context) {
  const auto &x = context.shape(0), &slope = context.shape(1);
  const ElementType left = context.type(0), right = context.type(1);
  if (left != right && left != ElementType::kUndefined && right != ElementType::kUndefined) {
    context.contradiction("element types {} and {} differ", element_type_name(left),
                          element_type_name(right));
  }
  if (x && slope) {
    const Shape wide = *broadcast(context, *x, *slope);
    bool fits = wide.size() == x->size();
    for (size_t i = 0; fits && i < x->size(); ++i) fits = compatible(wide[i], (*x)[i]);
    if (!fits)
      context.contradiction("slope {} does not broadcast to {}", to_string(*slope), to_string(*x));
  }
  infer_relu(context);
}

void infer_softmax(InferContext& context) {
  if (const auto& shape = context.shape(0)) {
    normalised_axis(context, context.node().integer("axis", -1),
                    static_cast<int64_t>(shape->size()));
  }
  infer_activation(context);
}

constexpr OperatorRule kRules[] = {
    {"Celu", 1, 1, 1, 1, infer_celu},
    {"Elu", 1, 1, 1, 1, infer_activation},
    {"Erf", 1, 1, 1, 1, infer_activation},
    {"Gelu", 1, 1, 1, 1, infer_gelu},
    {"HardSigmoid", 1, 1, 1, 1, infer_activation},
    {"HardSwish", 1, 1, 1, 1, infer_activation},
    {"LeakyRelu", 1, 1, 1, 1, infer_activation},
    {"LogSoftmax", 1, 1, 1, 1, infer_softmax},
    {"Mish", 1, 1, 1, 1, infer_activation},
    {"PRelu", 2, 2, 1, 1, infer_prelu},
    {"Relu", 1, 1, 1, 1, infer_relu},
    {"Selu", 1, 1, 1, 1, infer_activation},
    {"Sigmoid", 1, 1, 1, 1, infer_activation},
    {"Softmax", 1, 1, 1, 1, infer_softmax},
    {"Softplus", 1, 1, 1, 1, infer_activation},
    {"Softsign", 1, 1, 1, 1, infer_activation},
    {"Tanh", 1, 1, 1, 1, infer_activation},
    {"ThresholdedRelu", 1, 1, 1, 1, infer_activation},
};

}  // namespace

std::span<const OperatorRule> activation_rules() { return kRules; }

}  // namespace packlight::graph

#include <algorithm>

#include "graph/coupling/coupling_rules.h"

namespace packlight::graph {

// y[.., c, ..] = f(a[.., c, ..], b[.., c, ..]): index c of every operand that has it is one unit.
//   x [n, 16, h, w] + b [16, 1, 1]: index 5 of x's axis 1 and of b's axis 0 go together; the axes
//   of b with one index are stretched over h and w and say nothing of them.
ValueAxes broadcast_axes(CouplingContext& context, std::span<const ValueAxes> operands) {
  size_t rank = 0;
  for (const ValueAxes& operand : operands) rank = std::max(rank, operand.size());
  ValueAxes out(rank);
  for (size_t from_end = 1; from_end <= rank; ++from_end) {
    Axis& axis = out[rank - from_end];
    axis.size = 1;
    bool is_first = true;
    for (const ValueAxes& operand : operands) {
      if (operand.size() < from_end) continue;
      const Axis& one = operand[operand.size() - from_end];
      if (one.size == 1) continue;
      if (is_first) {
        axis = one;
        is_first = false;
        continue;
      }
      context.unite(axis, one);
      if (axis.fixed() && !one.fixed()) axis = one;
    }
  }
  return out;
}

namespace {

// y = f(x): the axes pass; other inputs are numbers.
void couple_unary(CouplingContext& context) { context.set(0, context.axes(0)); }

void couple_broadcast(CouplingContext& context) {
  std::vector<ValueAxes> operands;
  for (size_t i = 0; i < context.node().inputs.size(); ++i) {
    if (context.has(i)) operands.push_back(context.axes(i));
  }
  context.set(0, broadcast_axes(context, operands));
}

constexpr CouplingRule kRules[] = {
    {"Abs", couple_unary},
    {"Cast", couple_unary},
    {"Ceil", couple_unary},
    {"Celu", couple_unary},
    {"Clip", couple_unary},
    {"Cos", couple_unary},
    {"Dropout", couple_unary},
    {"Elu", couple_unary},
    {"Erf", couple_unary},
    {"Exp", couple_unary},
    {"Floor", couple_unary},
    {"Gelu", couple_unary},
    {"HardSigmoid", couple_unary},
    {"HardSwish", couple_unary},
    {"Identity", couple_unary},
    {"LeakyRelu", couple_unary},
    {"Log", couple_unary},
    {"Mish", couple_unary},
    {"Neg", couple_unary},
    {"Not", couple_unary},
    {"Reciprocal", couple_unary},
    {"Relu", couple_unary},
    {"Round", couple_unary},
    {"Selu", couple_unary},
    {"Sigmoid", couple_unary},
    {"Sign", couple_unary},
    {"Sin", couple_unary},
    {"Softplus", couple_unary},
    {"Softsign", couple_unary},
    {"Sqrt", couple_unary},
    {"Swish", couple_unary},
    {"Tanh", couple_unary},
    {"ThresholdedRelu", couple_unary},
    {"Add", couple_broadcast},
    {"And", couple_broadcast},
    {"Div", couple_broadcast},
    {"Equal", couple_broadcast},
    {"Greater", couple_broadcast},
    {"GreaterOrEqual", couple_broadcast},
    {"Less", couple_broadcast},
    {"LessOrEqual", couple_broadcast},
    {"Max", couple_broadcast},
    {"Min", couple_broadcast},
    {"Mod", couple_broadcast},
    {"Mul", couple_broadcast},
    {"Or", couple_broadcast},
    {"Pow", couple_broadcast},
    {"PRelu", couple_broadcast},
    {"Sub", couple_broadcast},
    {"Sum", couple_broadcast},
    {"Where", couple_broadcast},
};

}  // namespace

std::span<const CouplingRule> coupling_of_elementwise() { return kRules; }

}  // namespace packlight::graph

#include <ATen/ATen.h>

#include "exec/operators.h"
#include "graph/weight.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

Outputs add(const Call& call) { return {at::add(call.inputs[0], call.inputs[1])}; }
Outputs sub(const Call& call) { return {at::sub(call.inputs[0], call.inputs[1])}; }
Outputs mul(const Call& call) { return {at::mul(call.inputs[0], call.inputs[1])}; }

// ONNX divides integers towards zero.
Outputs div(const Call& call) {
  const bool integers = !at::isFloatingType(call.inputs[0].scalar_type());
  if (integers) return {at::div(call.inputs[0], call.inputs[1], "trunc")};
  return {at::div(call.inputs[0], call.inputs[1])};
}

Outputs sigmoid(const Call& call) { return {at::sigmoid(call.inputs[0])}; }
Outputs cosine(const Call& call) { return {at::cos(call.inputs[0])}; }
Outputs sine(const Call& call) { return {at::sin(call.inputs[0])}; }
Outputs identity(const Call& call) { return {call.inputs[0]}; }
Outputs softmax(const Call& call) {
  return {at::softmax(call.inputs[0], call.node.integer("axis", -1))};
}

Outputs cast(const Call& call) {
  return {
      call.inputs[0].to(graph::to_scalar_type(graph::from_onnx_type(call.node.integer("to", 0))))};
}

constexpr OperatorEntry kOperators[] = {
    {"Add", add},         {"Sub", sub},    {"Mul", mul},  {"Div", div},
    {"Sigmoid", sigmoid}, {"Cos", cosine}, {"Sin", sine}, {"Identity", identity},
    {"Softmax", softmax}, {"Cast", cast},
};

}  // namespace

std::span<const OperatorEntry> elementwise_operators() { return kOperators; }

}  // namespace packlight::exec

#include <ATen/ATen.h>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

template <at::Tensor (*function)(const at::Tensor&)>
Outputs unary(const Call& call) {
  return {function(call.inputs[0])};
}

double alpha(const Call& call, double fallback) { return call.node.number("alpha", fallback); }

Outputs leaky_relu(const Call& call) { return {at::leaky_relu(call.inputs[0], alpha(call, 0.01))}; }

Outputs prelu(const Call& call) {
  const at::Tensor &x = call.inputs[0], &slope = call.inputs[1];
  const at::Tensor out = at::where(x < 0, x * slope, x);
  if (out.sizes() != x.sizes())
    fail(ErrorCode::kInvalidArgument, "the slope does not broadcast to the input");
  return {out};
}

Outputs hard_sigmoid(const Call& call) {
  return {at::clamp(call.inputs[0] * alpha(call, 0.2) + call.node.number("beta", 0.5), 0, 1)};
}

Outputs gelu(const Call& call) {
  return {at::gelu(call.inputs[0], call.node.text("approximate", "none"))};
}

Outputs softplus(const Call& call) { return {at::softplus(call.inputs[0])}; }
Outputs elu(const Call& call) { return {at::elu(call.inputs[0], alpha(call, 1))}; }

// The defaults are those of the specification: F32 numbers.
Outputs selu(const Call& call) {
  return {at::elu(call.inputs[0], alpha(call, 1.67326319217681884765625),
                  call.node.number("gamma", 1.05070102214813232421875))};
}

Outputs celu(const Call& call) { return {at::celu(call.inputs[0], alpha(call, 1))}; }

Outputs soft_sign(const Call& call) { return {call.inputs[0] / (at::abs(call.inputs[0]) + 1)}; }

Outputs thresholded_relu(const Call& call) {
  return {at::threshold(call.inputs[0], alpha(call, 1), 0)};
}

Outputs softmax(const Call& call) {
  return {at::softmax(call.inputs[0], call.node.integer("axis", -1))};
}
Outputs log_softmax(const Call& call) {
  return {at::log_softmax(call.inputs[0], call.node.integer("axis", -1))};
}

constexpr OperatorEntry kOperators[] = {
    {"Celu", celu},
    {"Elu", elu},
    {"Erf", unary<at::erf>},
    {"Gelu", gelu},
    {"HardSigmoid", hard_sigmoid},
    {"HardSwish", unary<at::hardswish>},
    {"LeakyRelu", leaky_relu},
    {"LogSoftmax", log_softmax},
    {"Mish", unary<at::mish>},
    {"PRelu", prelu},
    {"Relu", unary<at::relu>},
    {"Selu", selu},
    {"Sigmoid", unary<at::sigmoid>},
    {"Softmax", softmax},
    {"Softplus", softplus},
    {"Softsign", soft_sign},
    {"Tanh", unary<at::tanh>},
    {"ThresholdedRelu", thresholded_relu},
};

}  // namespace

std::span<const OperatorEntry> activation_operators() { return kOperators; }

}  // namespace packlight::exec

#include "exec/recurrent_activation.h"

#include <ATen/ATen.h>

#include "base/fail.h"
#include "operators/recurrent_activation.h"

namespace packlight::exec {
namespace {

using Function = at::Tensor (*)(const at::Tensor& x, double alpha, double beta);

// In the order of operators::Activation.
constexpr Function kFunctions[] = {
    [](const at::Tensor& x, double, double) { return at::relu(x); },
    [](const at::Tensor& x, double, double) { return at::tanh(x); },
    [](const at::Tensor& x, double, double) { return at::sigmoid(x); },
    [](const at::Tensor& x, double, double) { return x / (at::abs(x) + 1); },
    [](const at::Tensor& x, double, double) { return at::softplus(x); },
    [](const at::Tensor& x, double a, double b) { return x * a + b; },
    [](const at::Tensor& x, double a, double) { return at::leaky_relu(x, a); },
    [](const at::Tensor& x, double a, double) { return at::where(x >= a, x, at::zeros_like(x)); },
    [](const at::Tensor& x, double a, double b) { return at::tanh(x * b) * a; },
    [](const at::Tensor& x, double a, double b) { return at::clamp(x * a + b, 0, 1); },
    [](const at::Tensor& x, double a, double) { return at::elu(x, a); },
};

template <class T>
std::vector<T> list(const graph::Node& node, const char* attribute) {
  const auto it = node.attributes.find(attribute);
  if (it == node.attributes.end()) return {};
  const auto* values = std::get_if<std::vector<T>>(&it->second);
  if (values == nullptr)
    fail(ErrorCode::kInvalidArgument, "attribute '{}' is no list of its type", attribute);
  return *values;
}

}  // namespace

at::Tensor RecurrentActivation::operator()(const at::Tensor& x) const {
  return function(clip > 0 ? at::clamp(x, -clip, clip) : x, alpha, beta);
}

std::vector<RecurrentActivation> recurrent_activations(const graph::Node& node,
                                                       std::span<const std::string_view> defaults,
                                                       int64_t directions) {
  const operators::ActivationAttributes attributes{list<std::string>(node, "activations"),
                                                   list<double>(node, "activation_alpha"),
                                                   list<double>(node, "activation_beta")};
  std::vector<RecurrentActivation> result;
  for (const auto& one : operators::recurrent_activations(attributes, defaults, directions)) {
    result.push_back({kFunctions[static_cast<size_t>(one.function)], one.alpha, one.beta,
                      node.number("clip", 0)});
  }
  return result;
}

}  // namespace packlight::exec

#include "runtime/network/recurrent_activation.h"

#include <cmath>

#include "operators/recurrent_activation.h"

namespace packlight::runtime {
namespace {

using Function = float (*)(float x, float alpha, float beta);

// In the order of operators::Activation. Written so that NaN stays NaN.
constexpr Function kFunctions[] = {
    [](float x, float, float) { return x < 0 ? 0 : x; },
    [](float x, float, float) { return std::tanh(x); },
    [](float x, float, float) { return 1 / (1 + std::exp(-x)); },
    [](float x, float, float) { return x / (std::abs(x) + 1); },
    [](float x, float, float) { return (x > 0 ? x : 0) + std::log1p(std::exp(-std::abs(x))); },
    [](float x, float a, float b) { return x * a + b; },
    [](float x, float a, float) { return x < 0 ? a * x : x; },
    [](float x, float a, float) { return x >= a ? x : 0; },
    [](float x, float a, float b) { return std::tanh(x * b) * a; },
    [](float x, float a, float b) { return std::clamp(x * a + b, 0.0f, 1.0f); },
    [](float x, float a, float) { return x < 0 ? a * std::expm1(x) : x; },
};

template <class T>
std::vector<T> list(const OperatorCall& call, std::string_view attribute, const char* kind) {
  const auto* values = call.node.attributes.get<std::vector<T>>(attribute, call.node.label(), kind);
  return values == nullptr ? std::vector<T>() : *values;
}

}  // namespace

std::vector<RecurrentActivation> recurrent_activations(const OperatorCall& call,
                                                       std::span<const std::string_view> defaults,
                                                       int64_t directions) {
  const operators::ActivationAttributes attributes{
      list<std::string>(call, "activations", "a list of strings"),
      list<double>(call, "activation_alpha", "a list of numbers"),
      list<double>(call, "activation_beta", "a list of numbers")};
  const auto clip = static_cast<float>(call.node.number("clip", 0));
  std::vector<RecurrentActivation> result;
  for (const auto& one : operators::recurrent_activations(attributes, defaults, directions)) {
    result.push_back({kFunctions[static_cast<size_t>(one.function)], static_cast<float>(one.alpha),
                      static_cast<float>(one.beta), clip});
  }
  return result;
}

}  // namespace packlight::runtime

#include "runtime/network/recurrent_activation.h"

#include <cctype>
#include <cmath>

namespace packlight::runtime {
namespace {

struct Row {
  std::string_view name;  // lower case: exporters write "tanh" as well as "Tanh"
  float (*function)(float x, float alpha, float beta);
  bool takes_alpha = false, takes_beta = false;
  float alpha = 0, beta = 0;  // the defaults of the ONNX operator of that name
};

// Written so that NaN stays NaN.
constexpr Row kRows[] = {
    {"relu", [](float x, float, float) { return x < 0 ? 0 : x; }},
    {"tanh", [](float x, float, float) { return std::tanh(x); }},
    {"sigmoid", [](float x, float, float) { return 1 / (1 + std::exp(-x)); }},
    {"softsign", [](float x, float, float) { return x / (std::abs(x) + 1); }},
    {"softplus",
     [](float x, float, float) { return (x > 0 ? x : 0) + std::log1p(std::exp(-std::abs(x))); }},
    {"affine", [](float x, float a, float b) { return x * a + b; }, true, true, 1, 0},
    {"leakyrelu", [](float x, float a, float) { return x < 0 ? a * x : x; }, true, false, 0.01f},
    {"thresholdedrelu", [](float x, float a, float) { return x >= a ? x : 0; }, true, false, 1},
    {"scaledtanh", [](float x, float a, float b) { return std::tanh(x * b) * a; }, true, true, 1,
     1},
    {"hardsigmoid", [](float x, float a, float b) { return std::clamp(x * a + b, 0.0f, 1.0f); },
     true, true, 0.2f, 0.5f},
    {"elu", [](float x, float a, float) { return x < 0 ? a * std::expm1(x) : x; }, true, false, 1},
};

const Row& find_row(const OperatorCall& call, std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const Row& row : kRows) {
    if (row.name == lower) return row;
  }
  call.refuse("'{}' is no activation of a recurrent operator", name);
}

template <class T>
std::vector<T> list(const OperatorCall& call, std::string_view attribute, const char* kind) {
  const auto* values = call.node.attributes.get<std::vector<T>>(attribute, call.node.label(), kind);
  return values == nullptr ? std::vector<T>() : *values;
}

}  // namespace

std::vector<RecurrentActivation> recurrent_activations(const OperatorCall& call,
                                                       std::span<const std::string_view> defaults,
                                                       int64_t directions) {
  auto names = list<std::string>(call, "activations", "a list of strings");
  if (names.empty()) {
    for (int64_t i = 0; i < directions; ++i)
      names.insert(names.end(), defaults.begin(), defaults.end());
  }
  if (names.size() != defaults.size() * directions) {
    call.refuse("{} activations; {} directions take {} each", names.size(), directions,
                defaults.size());
  }
  const auto alphas = list<double>(call, "activation_alpha", "a list of numbers"),
             betas = list<double>(call, "activation_beta", "a list of numbers");
  const auto clip = static_cast<float>(call.node.number("clip", 0));
  size_t alpha = 0, beta = 0;
  std::vector<RecurrentActivation> result;
  for (const std::string& name : names) {
    const Row& row = find_row(call, name);
    RecurrentActivation one{row.function, row.alpha, row.beta, clip};
    if (row.takes_alpha && alpha < alphas.size()) one.alpha = static_cast<float>(alphas[alpha++]);
    if (row.takes_beta && beta < betas.size()) one.beta = static_cast<float>(betas[beta++]);
    result.push_back(one);
  }
  return result;
}

}  // namespace packlight::runtime

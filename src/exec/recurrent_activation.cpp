#include "exec/recurrent_activation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cctype>

#include "base/fail.h"

namespace packlight::exec {
namespace {

struct Row {
  std::string_view name;  // lower case: exporters write "tanh" as well as "Tanh"
  at::Tensor (*function)(const at::Tensor& x, double alpha, double beta);
  bool takes_alpha = false, takes_beta = false;
  double alpha = 0, beta = 0;  // the defaults of the ONNX operator of that name
};

constexpr Row kRows[] = {
    {"relu", [](const at::Tensor& x, double, double) { return at::relu(x); }},
    {"tanh", [](const at::Tensor& x, double, double) { return at::tanh(x); }},
    {"sigmoid", [](const at::Tensor& x, double, double) { return at::sigmoid(x); }},
    {"softsign", [](const at::Tensor& x, double, double) { return x / (at::abs(x) + 1); }},
    {"softplus", [](const at::Tensor& x, double, double) { return at::softplus(x); }},
    {"affine", [](const at::Tensor& x, double a, double b) { return x * a + b; }, true, true, 1, 0},
    {"leakyrelu", [](const at::Tensor& x, double a, double) { return at::leaky_relu(x, a); }, true,
     false, 0.01},
    {"thresholdedrelu",
     [](const at::Tensor& x, double a, double) { return at::where(x >= a, x, at::zeros_like(x)); },
     true, false, 1},
    {"scaledtanh", [](const at::Tensor& x, double a, double b) { return at::tanh(x * b) * a; },
     true, true, 1, 1},
    {"hardsigmoid",
     [](const at::Tensor& x, double a, double b) { return at::clamp(x * a + b, 0, 1); }, true, true,
     0.2, 0.5},
    {"elu", [](const at::Tensor& x, double a, double) { return at::elu(x, a); }, true, false, 1},
};

const Row& find_row(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const Row& row : kRows) {
    if (row.name == lower) return row;
  }
  fail(ErrorCode::kInvalidArgument, "'{}' is no activation of a recurrent operator", name);
}

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

std::vector<RecurrentActivation> recurrent_activations(
    const graph::Node& node, const std::vector<std::string_view>& defaults, int64_t directions) {
  auto names = list<std::string>(node, "activations");
  if (names.empty()) {
    for (int64_t i = 0; i < directions; ++i)
      names.insert(names.end(), defaults.begin(), defaults.end());
  }
  if (names.size() != defaults.size() * directions) {
    fail(ErrorCode::kInvalidArgument, "{} activations; {} directions take {} each", names.size(),
         directions, defaults.size());
  }
  const auto alphas = list<double>(node, "activation_alpha"),
             betas = list<double>(node, "activation_beta");
  const double clip = node.number("clip", 0);
  size_t alpha = 0, beta = 0;
  std::vector<RecurrentActivation> result;
  for (const std::string& name : names) {
    const Row& row = find_row(name);
    RecurrentActivation one{row.function, row.alpha, row.beta, clip};
    if (row.takes_alpha && alpha < alphas.size()) one.alpha = alphas[alpha++];
    if (row.takes_beta && beta < betas.size()) one.beta = betas[beta++];
    result.push_back(one);
  }
  return result;
}

}  // namespace packlight::exec

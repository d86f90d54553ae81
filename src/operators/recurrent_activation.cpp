#include "operators/recurrent_activation.h"

#include <algorithm>
#include <cctype>

#include "base/fail.h"

namespace packlight::operators {
namespace {

struct Row {
  std::string_view name;  // lower case
  Activation function;
  bool takes_alpha = false, takes_beta = false;
  double alpha = 0, beta = 0;  // the defaults of the ONNX operator of that name
};

constexpr Row kRows[] = {
    {"relu", Activation::kRelu},
    {"tanh", Activation::kTanh},
    {"sigmoid", Activation::kSigmoid},
    {"softsign", Activation::kSoftsign},
    {"softplus", Activation::kSoftplus},
    {"affine", Activation::kAffine, true, true, 1, 0},
    {"leakyrelu", Activation::kLeakyRelu, true, false, 0.01},
    {"thresholdedrelu", Activation::kThresholdedRelu, true, false, 1},
    {"scaledtanh", Activation::kScaledTanh, true, true, 1, 1},
    {"hardsigmoid", Activation::kHardSigmoid, true, true, 0.2, 0.5},
    {"elu", Activation::kElu, true, false, 1},
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

}  // namespace

std::vector<ActivationSpec> recurrent_activations(const ActivationAttributes& attributes,
                                                  std::span<const std::string_view> defaults,
                                                  int64_t directions) {
  std::vector<std::string> names = attributes.names;
  if (names.empty()) {
    for (int64_t i = 0; i < directions; ++i)
      names.insert(names.end(), defaults.begin(), defaults.end());
  }
  if (names.size() != defaults.size() * directions) {
    fail(ErrorCode::kInvalidArgument, "{} activations; {} directions take {} each", names.size(),
         directions, defaults.size());
  }
  size_t alpha = 0, beta = 0;
  std::vector<ActivationSpec> result;
  for (const std::string& name : names) {
    const Row& row = find_row(name);
    ActivationSpec one{row.function, row.alpha, row.beta};
    if (row.takes_alpha && alpha < attributes.alphas.size()) one.alpha = attributes.alphas[alpha++];
    if (row.takes_beta && beta < attributes.betas.size()) one.beta = attributes.betas[beta++];
    result.push_back(one);
  }
  return result;
}

}  // namespace packlight::operators

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace packlight::operators {

// The activation functions of LSTM, GRU and RNN, in the order of this list everywhere.
enum class Activation : uint8_t {
  kRelu,
  kTanh,
  kSigmoid,
  kSoftsign,
  kSoftplus,
  kAffine,           // alpha x + beta
  kLeakyRelu,        // alpha x below zero
  kThresholdedRelu,  // 0 below alpha
  kScaledTanh,       // alpha tanh(beta x)
  kHardSigmoid,      // alpha x + beta in [0, 1]
  kElu,              // alpha (e^x - 1) below zero
};

struct ActivationSpec {
  Activation function = Activation::kTanh;
  double alpha = 0, beta = 0;
};

// What a node says: its attributes activations, activation_alpha and activation_beta.
struct ActivationAttributes {
  std::vector<std::string> names;
  std::vector<double> alphas, betas;
};

// Direction after direction: the names given, or `defaults` for each direction; any case, as
// exporters write "tanh" as well as "Tanh". Alphas and betas go in order to the functions that take
// one, as ONNX Runtime has it; the others have the ONNX operator's default. Errors: InvalidArgument
// for an unknown name or a wrong number of names.
std::vector<ActivationSpec> recurrent_activations(const ActivationAttributes& attributes,
                                                  std::span<const std::string_view> defaults,
                                                  int64_t directions);

}  // namespace packlight::operators

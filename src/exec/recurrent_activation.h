#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace packlight::exec {

// An activation function of a recurrent operator, with its parameters.
struct RecurrentActivation {
  at::Tensor (*function)(const at::Tensor& x, double alpha, double beta) = nullptr;
  double alpha = 0, beta = 0;
  double clip = 0;  // > 0: the input is bounded to [-clip, clip] first

  at::Tensor operator()(const at::Tensor& x) const;
};

// Those of a node, direction after direction: attribute `activations`, or `defaults` for each
// direction. Values of activation_alpha and activation_beta go in order to the functions that take
// one, as ONNX Runtime has it. Errors: InvalidArgument for an unknown name or a wrong number.
std::vector<RecurrentActivation> recurrent_activations(
    const graph::Node& node, const std::vector<std::string_view>& defaults, int64_t directions);

}  // namespace packlight::exec

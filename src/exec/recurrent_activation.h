#pragma once

#include <ATen/core/Tensor.h>

#include <span>
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

// Those of a node, direction after direction. Errors: those of operators::recurrent_activations().
std::vector<RecurrentActivation> recurrent_activations(const graph::Node& node,
                                                       std::span<const std::string_view> defaults,
                                                       int64_t directions);

}  // namespace packlight::exec

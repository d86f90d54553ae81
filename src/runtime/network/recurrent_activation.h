#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

#include "runtime/network/operator.h"

namespace packlight::runtime {

// An activation function of a recurrent operator, with its parameters.
struct RecurrentActivation {
  float (*function)(float x, float alpha, float beta) = nullptr;
  float alpha = 0, beta = 0;
  float clip = 0;  // > 0: the input is bounded to [-clip, clip] first

  float operator()(float x) const {
    return function(clip > 0 ? std::clamp(x, -clip, clip) : x, alpha, beta);
  }
};

// Those of a node, direction after direction. Errors: those of operators::recurrent_activations().
std::vector<RecurrentActivation> recurrent_activations(const OperatorCall& call,
                                                       std::span<const std::string_view> defaults,
                                                       int64_t directions);

}  // namespace packlight::runtime

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "quantize/weight_codes.h"

namespace packlight::quantize {

struct AdaRoundOptions {
  int64_t iterations = 2000;              // the paper: 10,000
  double learning_rate = 1e-2;            // of Adam
  double regularization = 0.01;           // lambda
  double first_beta = 20, last_beta = 2;  // after the warm-up, along half a cosine
  double warm_up = 0.2;                   // share of iterations without regularization
  int64_t batch_rows = 256;               // positions an iteration looks at
  int64_t rows = 8192;                    // positions kept of a layer, spread over samples
  int64_t samples = 256;                  // calibration samples that positions are taken from
  uint64_t seed = 0;
};

// One layer's products (calib::LayerMatrix) on the inputs it gets in the quantized network.
struct AdaRoundProblem {
  at::Tensor x;       // F32 [groups, rows, k]
  at::Tensor wanted;  // F32 [groups, rows, outputs]: the float network's, without bias
  at::Tensor weight;  // F32 [groups, outputs, k]
  at::Tensor scale;   // F32 [groups, outputs, 1]
  at::Tensor bias;    // F32 [groups, 1, outputs], or undefined; matters only before a Relu
  bool relu = false;  // outputs are compared behind a Relu
  WeightGrid grid{-128, 127};
};

struct AdaRoundResult {
  at::Tensor codes;                     // I8 [groups, outputs, k]
  double nearest_error = 0, error = 0;  // mean square of the outputs' differences, all rows
};

// Rounds each weight up or down so that the layer's outputs keep near the float ones:
//   minimize |f(x w'^T) - f(wanted)|^2 + lambda sum(1 - |2 h(v) - 1|^beta),
//   w' = scale * clamp(floor(w / scale) + h(v), low, high),
//   h(v) = clamp(1.2 sigmoid(v) - 0.1, 0, 1)
// The result is the nearest codes where those are better on the rows given. Same input and seed,
// same result. Cost: iterations * batch_rows * (4 outputs * k) multiply-accumulates a group.
// Source: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization"
// (arXiv:2004.10568), section 3.
AdaRoundResult adaround(const AdaRoundProblem& problem, const AdaRoundOptions& options);

}  // namespace packlight::quantize

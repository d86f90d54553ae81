#pragma once

#include "graph/graph.h"

namespace packlight::quantize {

struct EqualizeReport {
  int pairs = 0;              // of layers between which channels were scaled
  double largest_factor = 1;  // by which a channel's weights changed, either way
};

// Cross-layer equalization: where a convolution's (or Gemm's) output goes through operators that
// commute with positive factors (Relu, LeakyRelu, PRelu, pooling) into exactly one other such
// layer, channel i of the first is divided by s_i and multiplied back in the second,
//   s_i = sqrt(r1_i r2_i) / r2_i,  r1_i, r2_i the largest |weight| that makes and takes channel i,
// so that both use their codes alike. Repeated over all pairs, up to `rounds` times, until no
// factor leaves [1/1.01, 1.01]. The network computes the same, up to rounding of F32. Layers: Conv
// of one group or depthwise, Gemm without transA and alpha; weights that are dense constants used
// once. Channels that hardly anything makes or takes (r below 1e-4 of its layer's largest) stay: s
// would make their bias the range of all activations. Source: Nagel et al. 2019, "Data-Free
// Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721), section 4.1;
// differs: pooling is looked through, dead channels stay, high biases are not absorbed (4.1.3).
EqualizeReport equalize(graph::Graph& graph, int rounds = 20);

}  // namespace packlight::quantize

#pragma once

#include "calib/activation_ranges.h"
#include "graph/graph.h"

namespace packlight::quantize {

struct SmoothOptions {
  // How much of the difficulty moves from the activation into the weight, in [0, 1]: 0 leaves the
  // activation as it is, 1 evens its channels out.
  double strength = 0.5;
};

struct SmoothReport {
  int values = 0;  // whose channels were scaled
  int multiplications =
      0;  // of them, those that no node before them could take in: a Mul was added
  double largest_factor = 1;  // between two channels of a value
};

// Evens out the channels of what layers multiply. Of a value x that layers read, channel c is
// divided by e_c and the layers' weights for it are multiplied by e_c; the network computes the
// same, up to rounding of F32:
//   e_c = max|x_c|^a / r_c^(1 - a),  r_c = max_o |w[o, c]| / max_c' |w[o, c']|
// with a = strength (r_c is relative, as each output has a scale of its own), and e_c = max|x_c|
// where only depthwise convolutions read x, whose channels have scales of their own: their
// activation is then rounded as if it had one scale a channel, for nothing. Channels below a
// thousandth of the largest count as that much. The division goes into what makes x: the weight and
// bias of a layer, seen through Relu, LeakyRelu and pooling; constants that are multiplied or
// added; a LayerNormalization; else a Mul of [channels] is put before the layers. Layers: Conv of
// one group or depthwise, MatMul and Gemm (without transA) with a weight on the right; weights that
// are dense constants used once. Errors: those of calib::observe_activations. Source: Xiao et al.
// 2023, "SmoothQuant" (arXiv:2211.10438), eq. 4; Meller et al. 2019, "Same, Same But Different"
// (arXiv:1902.01917); differs: r_c, any operator before x, depthwise convolutions.
SmoothReport smooth(graph::Graph& graph, const calib::Batches& batches,
                    const SmoothOptions& options = {});

}  // namespace packlight::quantize

#pragma once

#include "graph/graph.h"

namespace packlight::graph {

// Each finds a function that an exporter wrote as elementary operators and puts ONNX's operator in
// the place of the last of them; nothing of what is between may be used elsewhere. Returns how
// often.

// Clip(x + b, 0, m) / m  ->  HardSigmoid(x; 1 / m, b / m)
int fuse_hard_sigmoid(Graph& graph);
// x * HardSigmoid(x; 1/6, 1/2)  and  x * Clip(x + 3, 0, 6) / 6  ->  HardSwish(x)
int fuse_hard_swish(Graph& graph);
// x * 0.5 * (1 + Erf(x / sqrt(2)))  ->  Gelu(x), and
// x * 0.5 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))  ->  Gelu(x; tanh); factors in any
// order
int fuse_gelu(Graph& graph);

}  // namespace packlight::graph

#pragma once

#include "graph/graph.h"

namespace packlight::graph {

// d = x - ReduceMean(x);  d / Sqrt(ReduceMean(d^2) + epsilon) [* scale [+ bias]], over the last
// dimensions (d^2 as Pow or Mul; scale and bias constants of the shape of these dimensions)
// ->  LayerNormalization. Returns how often.
int fuse_layer_norm(Graph& graph);

}  // namespace packlight::graph

#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace packlight::prune {

// A linear operator whose weight may be pruned.
struct PrunableLayer {
  std::string name;  // of the weight
  graph::ValueId weight;
  // The value that the operator's output (its bias added) is added to, when that is all that becomes of it: the residual stream.
  graph::ValueId residual = graph::kNone;
};

// Layers that read the same input (query, key and value; gate and up): one Hessian serves them.
struct LayerGroup {
  graph::ValueId input;
  graph::NodeId stop;  // the first node that reads one of the weights: the input is known before it runs
  std::string block;
  std::vector<PrunableLayer> layers;
};

// The linear operators of a language model in the order they run, without those that make a graph output (the head) and those
// whose weight is looked up as well (a tied embedding).
// Errors: Unsupported for a weight that is not stored [out, in], or is read before its operator's input is known.
std::vector<LayerGroup> layer_groups(const graph::Graph& graph);

}  // namespace packlight::prune

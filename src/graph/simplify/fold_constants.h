#pragma once

#include <functional>
#include <span>
#include <vector>

#include "graph/graph.h"

namespace packlight::graph {

// Runs one node: its inputs in order (undefined where absent) as the graph stores them -> its
// outputs in order. exec::evaluate_node is one; graph/ itself cannot run operators.
using Evaluator =
    std::function<std::vector<at::Tensor>(const Graph&, const Node&, std::span<const at::Tensor>)>;

struct FoldLimits {
  int64_t output_bytes = 16 << 20;  // of one folded value
  int64_t growth_bytes = 1 << 20;   // by how much it may exceed its inputs: an Expand stays a node
};

// Nodes whose inputs are all dense weights become weights, which keep the values' names. Stays a
// node: what is random, holds a subgraph or is quantized (DequantizeLinear of stored integers);
// what may be larger than the limits; a Transpose or Reshape on the way to the second factor of a
// MatMul or Gemm (a linear layer keeps its weight in the checkpoint's orientation, see
// linear_weight()); what the evaluator refuses or makes infinite. Returns the nodes folded.
int fold_constants(Graph& graph, const Evaluator& evaluate, const FoldLimits& limits = {});

}  // namespace packlight::graph

#pragma once

#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "graph/simplify/fold_constants.h"

namespace packlight::graph {

struct SimplifyOptions {
  Evaluator evaluate = nullptr;  // exec::evaluate_node; without it constants are not folded
  FoldLimits limits = {};
  // The network is not trained any further: Dropout goes, BatchNormalization becomes part of its
  // neighbours. False keeps both.
  bool inference = true;
  bool merge_parameters = false;  // see merge_weights()
  // False: attention stays matrix products and softmax, which can be quantized one by one.
  bool fuse_attention = true;
};

struct PassReport {
  std::string_view name;
  int changes = 0;        // nodes that it folded, fused or rewrote (weights, for merge_weights)
  int nodes_removed = 0;  // by which the graph became shorter
};

struct SimplifyReport {
  int nodes_before = 0, nodes_after = 0;
  std::vector<PassReport> passes;  // in the order in which they run
};

// Makes a graph smaller without changing what it computes: outputs agree up to the rounding of F32,
// and keep their names; so do weights, where they stay. Runs the passes of this folder in order,
// and from the first again after each that changed something, so that each sees what all before it
// have tidied. Subgraphs of If and Loop are left as they are. Ids change. Errors: those of
// infer_shapes(), of a graph that was wrong before.
SimplifyReport simplify(Graph& graph, const SimplifyOptions& options = {});

}  // namespace packlight::graph

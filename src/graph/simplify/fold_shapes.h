#pragma once

#include "graph/graph.h"

namespace packlight::graph {

// Infers shapes; integer values of which every element is then known become weights, and the target
// of a Reshape of which all elements but one are known becomes a weight with -1 there (elements
// that are the input's own dimension at their place become 0, "copied"). Returns values folded and
// targets rewritten. Errors: those of infer_shapes().
int fold_shapes(Graph& graph);

}  // namespace packlight::graph

#pragma once

#include "graph/graph.h"

namespace packlight::prune {

// The form of a network in which its coupled-channel groups are largest: constants and shapes
// folded, patterns fused (attention, too), BatchNormalization and Dropout kept, so that it can be
// trained.
void simplify_for_pruning(graph::Graph& graph);

}  // namespace packlight::prune

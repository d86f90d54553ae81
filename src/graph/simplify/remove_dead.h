#pragma once

#include "graph/graph.h"

namespace packlight::graph {

// Optional outputs at the end of a node's list that nobody uses are not asked for any more (the
// mask of Dropout, the indices of MaxPool); nodes and values that lead to no graph output go.
// Returns the nodes removed and shortened.
int remove_dead(Graph& graph);

}  // namespace packlight::graph

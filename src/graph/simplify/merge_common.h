#pragma once

#include "graph/graph.h"

namespace packlight::graph {

// Weights that hold the same become one: integers and booleans, and floats of one element. Larger
// floats are parameters, and two that happen to be equal (zero biases) would be trained and pruned
// as one: they are merged only with merge_parameters. Encoded matrices stay. Returns the weights
// that went.
int merge_weights(Graph& graph, bool merge_parameters = false);

// Common subexpressions: of nodes with the same operator, inputs and attributes (tensors by their
// contents) the first stays. Random operators and those with subgraphs are left. Returns the nodes
// removed.
int merge_nodes(Graph& graph);

}  // namespace packlight::graph

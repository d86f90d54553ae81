#pragma once

#include "graph/graph.h"

namespace packlight::graph {

// Nodes that hand on their input go: Identity; Dropout (only with `inference`); Cast to the type
// that the value has; Add and Sub of 0, Mul and Div by 1; Pad by nothing, Slice of everything,
// Expand to the same shape; Concat, Sum, Max, Min and Mean of one input; each only where the shape
// is proven to stay. Returns the nodes removed.
int remove_no_ops(Graph& graph, bool inference = true);

// Consecutive Transposes become one, a Reshape (also Squeeze, Unsqueeze, Flatten) of a Reshape
// reads the first one's input; what is then, or was, the identity goes. Returns the nodes changed.
int merge_movement(Graph& graph);

}  // namespace packlight::graph

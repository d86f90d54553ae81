#pragma once

#include "graph/graph.h"

namespace packlight::graph {

// Softmax(scale * Q K^T [+ mask]) V with Q, K, V of [batch, heads, length, size]  ->  Attention.
// The scale may stand at the scores or at either factor; batch and heads of all three must be
// provably equal, since a MatMul broadcasts them and Attention does not. Returns how often.
int fuse_attention(Graph& graph);

}  // namespace packlight::graph

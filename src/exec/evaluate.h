#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "graph/graph.h"

namespace packlight::exec {

// Runs one node without autograd, as an inference: its inputs in order (undefined where absent, of
// any float type: they are F32 to operators) -> its outputs in order. What
// graph::SimplifyOptions::evaluate takes. Errors: Unsupported for an operator that is not
// implemented or that runs a subgraph; InvalidArgument naming the node for what it refuses.
std::vector<at::Tensor> evaluate_node(const graph::Graph& graph, const graph::Node& node,
                                      std::span<const at::Tensor> inputs);

}  // namespace packlight::exec

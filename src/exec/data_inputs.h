#pragma once

#include <string>
#include <unordered_map>

#include "data/loader.h"
#include "exec/executor.h"
#include "graph/graph.h"

namespace packlight::exec {

// A data buffer as a tensor of its own memory.
at::Tensor to_tensor(const data::Array& array);

// A batch as the graph's inputs by name; a nameless field is the graph's only input. Integers
// become the type that the graph declares. Errors: InvalidArgument for a field that is no input of
// the graph, an input without a field, a sample shape that contradicts the declared one (both are
// named), and bytes for an input of floats: whether they mean 0 to 255 or 0 to 1 nobody said.
std::unordered_map<std::string, at::Tensor> input_tensors(const graph::Graph& graph,
                                                          const data::Batch& batch);

}  // namespace packlight::exec

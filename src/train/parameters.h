#pragma once

#include <limits>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace packlight::train {

// A weight that training changes.
struct Parameter {
  graph::ValueId value;
  std::string name;
  bool decays;  // weight decay applies: matrices and kernels, not biases, norms and scales
  double gradient_scale = 1;                                // what its gradient is multiplied by
  double least = -std::numeric_limits<double>::infinity();  // no element goes below, after a step
};

// Every dense float weight of a layer: kernels, matrices, biases, scales of normalizations, slopes
// of PRelu, embeddings, and the other operand of Add, Sub, Mul and Div when it is more than one
// number (biases and scales that a file has as operators of their own). Constants of activations
// (the 3 and 6 of a hard swish), running statistics and what Resize, Clip or Pad read are none.
// Weights of subgraphs stay as they are. Errors: Unsupported naming the tensor when one of them is
// packed or quantized; InvalidArgument when there are none.
std::vector<Parameter> find_parameters(const graph::Graph& graph);
// The same, where none may be found.
std::vector<Parameter> find_any_parameters(const graph::Graph& graph);

}  // namespace packlight::train

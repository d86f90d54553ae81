#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace packlight::graph {

// Fixes the shapes of graph inputs (by name) and infers every other shape anew. A dimension name
// that is thereby a number becomes that number in all inputs. Errors: InvalidArgument for a name
// that is no input, a rank or number that contradicts the declared one; those of infer_shapes().
void bind_input_shapes(Graph& graph, const std::map<std::string, std::vector<int64_t>>& shapes);

// Multiply-accumulates of a node's products: convolutions, matrix products, attention, recurrent
// layers; 0 for every other operator. Nothing while a dimension that counts is no number. Subgraphs
// count as 0.
std::optional<int64_t> multiply_accumulates(const Graph& graph, const Node& node);

// What a whole graph takes.
struct GraphCost {
  int64_t parameters = 0;  // elements of all weights
  int64_t bytes = 0;       // as they are stored
  std::optional<int64_t> macs = 0;
};
GraphCost total_cost(const Graph& graph);

// Elements of a value, or nothing while a dimension is no number.
std::optional<int64_t> element_count(const Value& value);

// The most bytes that activations take at once when nodes run in order and every value lives from
// the node that makes it to the last that uses it (graph inputs and outputs included, weights not).
// Nothing while a shape is not known.
std::optional<int64_t> peak_activation_bytes(const Graph& graph);

}  // namespace packlight::graph

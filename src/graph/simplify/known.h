#pragma once

#include <optional>
#include <vector>

#include "graph/graph.h"

namespace packlight::graph {

// What passes can prove of values.

// The tensor of a dense weight; nullptr for kNone, encoded matrices and everything else.
const at::Tensor* dense_constant(const Graph& graph, ValueId value);
// The number of a constant of one element, rank 0 or 1.
std::optional<double> scalar_constant(const Graph& graph, ValueId value);
// Whether a constant is such a number up to the rounding of F32 (exporters print constants in F32).
bool is_number(const Graph& graph, ValueId value, double number);
bool near(double got, double want);

// The same number, or the same symbol.
bool same(const Dim& a, const Dim& b);
bool same(const std::optional<Shape>& a, const std::optional<Shape>& b);
// The same shape for tensors of as many elements: one dimension may be unknown on both sides.
bool same_reshaped(const std::optional<Shape>& a, const std::optional<Shape>& b);
// Whether an elementwise operator of both gives `large`'s shape.
bool broadcasts_into(const std::optional<Shape>& small, const std::optional<Shape>& large);

// The permutation of a Transpose of `rank` dimensions (its default reverses them).
std::vector<int64_t> permutation(const Node& transpose, size_t rank);
bool is_identity(const std::vector<int64_t>& perm);

}  // namespace packlight::graph

#pragma once

#include "graph/operator_rules.h"

namespace packlight::graph {

// [..., m, k] x [..., k, n] -> [..., m, n]; a rank-1 factor loses its dimension (numpy.matmul).
// `a`, `b`: the factors' input indices. Nothing when a rank is unknown. Errors: Corrupt.
std::optional<Shape> matmul_shape(const InferContext& context, size_t a, size_t b);

}  // namespace packlight::graph

#pragma once

#include <vector>

#include "runtime/network/broadcast.h"
#include "runtime/network/operator.h"

namespace packlight::runtime {

// A product [batch..., m, k] x [batch..., k, n] whose batches broadcast (numpy.matmul); a factor of
// rank 1 is a row on the left, a column on the right.
struct MatMulShape {
  int64_t m = 0, n = 0, k = 0;
  std::vector<int64_t> batch;
  std::vector<int64_t> output;  // a rank-1 factor loses its dimension

  int64_t batches() const;
  // For each batch, which matrix of a factor with these dimensions belongs to it.
  std::vector<int64_t> matrices_of(const std::vector<int64_t>& factor) const;
};

// Errors: InvalidArgument for scalars, other inner dimensions and batches that do not broadcast.
MatMulShape matmul_shape(const OperatorCall& call, const std::vector<int64_t>& a,
                         const std::vector<int64_t>& b);

}  // namespace packlight::runtime

#pragma once

#include <vector>

#include "runtime/network/operator.h"

namespace packlight::runtime {

// How an operand is walked to make an output of a broadcast shape: one stride an output dimension,
// 0 where it repeats. Dimensions that run on in every operand are merged, so that most cases end as
// one or two.
struct BroadcastWalk {
  std::vector<int64_t> dims;                  // of the output, merged
  std::vector<std::vector<int64_t>> strides;  // by operand, in elements
};
BroadcastWalk broadcast_walk(std::span<const int64_t> output,
                             std::span<const Tensor* const> operands);

// Calls row(offset_out, offsets_in, length) for runs of the innermost dimension that cover outputs
// [begin, end); the innermost strides are walk.strides[k].back() (0 or 1).
template <size_t N, class Row>
void for_each_run(const BroadcastWalk& walk, int64_t begin, int64_t end, const Row& row) {
  const int64_t inner = walk.dims.back();
  const size_t outer = walk.dims.size() - 1;
  for (int64_t at = begin; at < end;) {
    const int64_t column = at % inner;
    int64_t rest = at / inner;
    int64_t offsets[N];
    for (size_t k = 0; k < N; ++k) offsets[k] = column * walk.strides[k].back();
    for (size_t d = outer; d-- > 0;) {
      const int64_t index = rest % walk.dims[d];
      rest /= walk.dims[d];
      for (size_t k = 0; k < N; ++k) offsets[k] += index * walk.strides[k][d];
    }
    const int64_t length = std::min(inner - column, end - at);
    row(at, offsets, length);
    at += length;
  }
}

}  // namespace packlight::runtime

#pragma once

#include <functional>
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
// [begin, end); the innermost strides are walk.strides[k].back() (0 or 1). At most four operands.
using BroadcastRun = std::function<void(int64_t at, const int64_t* offsets, int64_t length)>;
void for_each_run(const BroadcastWalk& walk, int64_t begin, int64_t end, const BroadcastRun& row);

// The same over all elements of `to`, made of two operands, on all threads. Code for every pair of
// types would be most of the runtime: only what `row` does depends on them.
void for_each_binary_run(
    const RunCall& call, const Tensor& left, const Tensor& right, const Tensor& to,
    const std::function<void(int64_t at, const int64_t* offsets, int64_t length, bool step_left,
                             bool step_right)>& row);

}  // namespace packlight::runtime

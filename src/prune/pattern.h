#pragma once

#include <ATen/core/Tensor.h>

#include "graph/zero_pattern.h"

namespace packlight::prune {

// Which weights are compared with each other when a share of them goes.
enum class Scope {
  kRow,     // those of one output (Wanda)
  kMatrix,  // all of a layer (magnitude)
};

using Pattern = graph::ZeroPattern;

// The weights to keep (bool, [rows, cols]): those of the highest scores. Of equal scores the later in the row (then the later
// row) stay. scores: [rows, cols] f32, finite.
//   unstructured: exactly round(ratio * rows * cols) go; with Scope::kRow each row loses its share of them, to within one
//   N:M: `ratio` and `scope` say nothing; cols must be a multiple of M
// The result does not depend on the number of threads.
at::Tensor keep_mask(const at::Tensor& scores, const Pattern& pattern, double ratio, Scope scope);

}  // namespace packlight::prune

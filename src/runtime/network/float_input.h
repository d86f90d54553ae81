#pragma once

#include <vector>

#include "runtime/network/operator.h"

namespace packlight::runtime {

// An input's elements as F32, where it is F32, F16, BF16 or a packed weight: where they are, or
// decoded into `buffer`. Errors: InvalidArgument for another type.
const float* float_input(const RunCall& call, size_t input, std::vector<float>& buffer);

// The type that an input's elements have once float_input() has read them.
inline codec::DType element_type(const Tensor& tensor) {
  return tensor.packed != nullptr ? codec::DType::kF32 : tensor.dtype;
}

}  // namespace packlight::runtime

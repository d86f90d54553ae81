#pragma once

#include <algorithm>

#include "runtime/network/operator.h"

namespace packlight::runtime {

// Input 0 as [outer, size, inner] around one axis: `outer * inner` lines of `size` elements, whose
// elements are `inner` apart.
struct AxisView {
  int64_t outer = 1, size = 1, inner = 1;

  AxisView(const OperatorCall& call, int64_t given_axis) {
    const Tensor& x = call.input(0);
    const int64_t axis = normalised_axis(call, given_axis, x.rank());
    for (int64_t d = 0; d < axis; ++d) outer *= x.dims[d];
    size = x.dims[axis];
    for (int64_t d = axis + 1; d < x.rank(); ++d) inner *= x.dims[d];
  }

  // Where a line starts in a tensor of these dimensions but `line_size` along the axis.
  int64_t start(int64_t line, int64_t line_size) const {
    return line / inner * line_size * inner + line % inner;
  }
  // How many lines have that many elements.
  int64_t lines_at_least(int64_t elements) const {
    return std::max<int64_t>(1, elements / std::max<int64_t>(1, size));
  }
};

}  // namespace packlight::runtime

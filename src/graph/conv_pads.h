#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

namespace packlight::graph {

// The padding of one dimension, before and after, that auto_pad asks for; `given` with NOTSET.
// size: of the input, extent: of the dilated kernel. stride >= 1.
inline std::pair<int64_t, int64_t> conv_pads(std::string_view auto_pad,
                                             std::pair<int64_t, int64_t> given, int64_t size,
                                             int64_t extent, int64_t stride) {
  if (auto_pad == "NOTSET") return given;
  if (auto_pad == "VALID") return {0, 0};
  const int64_t positions = (size + stride - 1) / stride;  // SAME: the output is this long
  const int64_t total = std::max<int64_t>(0, (positions - 1) * stride + extent - size);
  const int64_t less = total / 2, more = total - less;
  return auto_pad == "SAME_LOWER" ? std::pair{more, less} : std::pair{less, more};
}

}  // namespace packlight::graph

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace packlight::graph {

// What ONNX Slice takes of one axis: `length` elements from `start` on, `step` apart.
struct SliceRange {
  int64_t start = 0, length = 0, step = 1;
};

// Negative ends count from the back, ends outside the axis are clamped. step is not 0.
inline SliceRange slice_range(int64_t size, int64_t start, int64_t end, int64_t step) {
  if (size <= 0) return {0, 0, step};
  // The far negative value "from the very end" has no magnitude; any step as long as the axis does
  // the same.
  step = std::clamp(step, -size, size);
  const auto from_back = [size](int64_t at) {
    return at >= 0 ? at : at < -size ? int64_t{-1} : at + size;
  };
  if (step > 0) {
    start = start < -size ? 0 : std::min(from_back(start), size);
    end = end < -size ? 0 : std::min(from_back(end), size);
    return {start, end <= start ? 0 : (end - start - 1) / step + 1, step};
  }
  start = std::clamp<int64_t>(from_back(start), 0, size - 1);
  end = std::min(from_back(end), size - 1);
  return {start, start <= end ? 0 : (start - end - 1) / -step + 1, step};
}

}  // namespace packlight::graph

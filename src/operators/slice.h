#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace packlight::operators {

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

// How many elements ONNX Range has: start, start + delta, ... before limit. delta is not 0. The
// largest number where there are more.
inline int64_t range_length(int64_t start, int64_t limit, int64_t delta) {
  const bool up = delta > 0;
  if (up ? limit <= start : limit >= start) return 0;
  // Unsigned, since a difference of two numbers may not fit.
  const auto first = static_cast<uint64_t>(start), last = static_cast<uint64_t>(limit);
  const uint64_t span = up ? last - first : first - last;
  const uint64_t step = up ? static_cast<uint64_t>(delta) : 0 - static_cast<uint64_t>(delta);
  constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  return static_cast<int64_t>(std::min((span - 1) / step, kMax - 1) + 1);
}

}  // namespace packlight::operators

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

// The sizes that Resize makes, for its rule and its execution.
namespace packlight::graph {

// floor(size * part * scale), in F32 like other engines (10 * 0.7 is 7); nothing where the scale is
// not positive or the result no size. `part` is what the region of interest leaves of the axis.
inline std::optional<int64_t> scaled_size(int64_t size, double part, double scale) {
  const float product =
      std::floor(static_cast<float>(size) * static_cast<float>(part) * static_cast<float>(scale));
  if (!(scale > 0) || !(product >= 0) || product > 0x1p40f) return std::nullopt;
  return static_cast<int64_t>(product);
}

// The one scale of all axes that keeps the aspect ratio: no axis larger (or smaller) than wanted.
// Sizes [wanted, present] an axis, present > 0.
inline double kept_aspect_scale(std::span<const std::pair<int64_t, int64_t>> sizes,
                                bool not_larger) {
  double scale = not_larger ? INFINITY : 0;
  for (const auto& [wanted, present] : sizes) {
    const double one = static_cast<double>(wanted) / static_cast<double>(present);
    scale = not_larger ? std::min(scale, one) : std::max(scale, one);
  }
  return scale;
}
inline int64_t kept_aspect_size(double scale, int64_t size) {  // halves go up
  return static_cast<int64_t>(std::floor(scale * static_cast<double>(size) + 0.5));
}

}  // namespace packlight::graph

#include "runtime/network/convolution_bands.h"

namespace packlight::runtime {
namespace {

// Beyond this a band of one row is mostly padding, or has no place in any cache.
constexpr double kMostBandElements = 1 << 22;

}  // namespace

bool is_pointwise(const Window& window) {
  bool pointwise = window.kernel_size() == 1;
  for (size_t i = 0; i < kSpatialAxes; ++i) {
    pointwise = pointwise && window.axes[i].stride == 1 && window.begin[i] == 0 &&
                window.stops[i] == window.image[i];
  }
  return pointwise;
}

bool is_flat(const Window& window) {
  return window.axes[0].kernel == 1 && window.image[0] == 1 && window.stops[0] == 1 &&
         window.begin[0] == 0;
}

bool fits_bands(const Convolution& it, int64_t channels) {
  const Window& window = it.window;
  const auto reach = [&](size_t axis, double stops) {
    const WindowAxis& at = window.axes[axis];
    return stops + static_cast<double>(at.kernel) * static_cast<double>(at.dilation) /
                       static_cast<double>(at.stride);
  };
  const double phases =
      static_cast<double>(std::min(window.axes[1].stride, window.axes[1].kernel)) *
      static_cast<double>(std::min(window.axes[2].stride, window.axes[2].kernel));
  const double elements = static_cast<double>(channels) * phases * reach(1, 1) *
                          reach(2, static_cast<double>(window.stops[2]));
  return is_flat(window) && elements <= kMostBandElements;
}

std::vector<BandPart> band_parts(const Convolution& it, int64_t count, int64_t length, int64_t unit,
                                 int threads) {
  const int64_t images = it.batch * it.groups;
  // As many pieces as threads, or a multiple, so that none is idle at the end.
  int64_t pieces = (count + length - 1) / length;
  if (images < 4 * threads && pieces % threads != 0)
    pieces = std::min((pieces / threads + 1) * threads, std::max<int64_t>(1, count / unit));
  const int64_t step = parts_of(count, unit, pieces);
  pieces = (count + step - 1) / step;
  const bool split_maps = images * pieces < threads;
  const int64_t maps = it.group_maps(),
                map_step = split_maps ? parts_of(maps, kMapUnit, threads) : maps;
  std::vector<BandPart> parts;
  for (int64_t image = 0; image < it.batch; ++image) {
    for (int64_t group = 0; group < it.groups; ++group) {
      for (int64_t first = 0; first < count; first += step) {
        for (int64_t map = 0; map < maps; map += map_step)
          parts.push_back({image, group, first, std::min(step, count - first), map,
                           std::min(maps, map + map_step)});
      }
    }
  }
  return parts;
}

}  // namespace packlight::runtime

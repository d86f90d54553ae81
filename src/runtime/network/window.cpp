#include "runtime/network/window.h"

#include <algorithm>

namespace packlight::runtime {
namespace {

void check_shapes(const OperatorCall& call, const Tensor& x, std::span<const int64_t> kernel) {
  const size_t rank = x.dims.size();
  if (rank < 3) call.refuse("input {} has no spatial axis", to_string(x.dims));
  if (rank > 2 + kSpatialAxes)
    call.refuse("{} spatial axes: at most {} are supported", rank - 2, kSpatialAxes);
  if (kernel.size() != rank - 2)
    call.refuse("a kernel of {} axes on an input {}", kernel.size(), to_string(x.dims));
  for (size_t i = 2; i < rank; ++i) {
    if (x.dims[i] > operators::kMaxWindowInput)
      call.refuse("a spatial axis of {} elements", x.dims[i]);
  }
}

// The axes as the attributes say, and the input's sizes.
Window read_window(const OperatorCall& call, const Tensor& x, std::span<const int64_t> kernel) {
  check_shapes(call, x, kernel);
  const operators::Window axes = operators::read_window(operators::window_attributes(call.node),
                                                        {kernel.begin(), kernel.end()});
  Window window;
  window.first = kSpatialAxes - axes.size();
  for (size_t i = 0; i < axes.size(); ++i) {
    window.axes[window.first + i] = axes[i];
    window.image[window.first + i] = x.dims[i + 2];
  }
  return window;
}

}  // namespace

std::vector<int64_t> Window::dims(int64_t batch, int64_t channels, const Spatial& sizes) const {
  std::vector<int64_t> all{batch, channels};
  all.insert(all.end(), sizes.begin() + static_cast<std::ptrdiff_t>(first), sizes.end());
  return all;
}

Window::Range Window::inside(size_t axis, int64_t tap) const {
  const int64_t stride = axes[axis].stride, offset = tap * axes[axis].dilation - begin[axis];
  // 0 <= stop * stride + offset < image
  const int64_t low = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  const int64_t room = image[axis] - offset;
  const int64_t high = room <= 0 ? 0 : (room + stride - 1) / stride;
  return {std::min(low, stops[axis]),
          std::max(std::min(low, stops[axis]), std::min(high, stops[axis]))};
}

Window window_over(const OperatorCall& call, const Tensor& x, std::span<const int64_t> kernel) {
  Window window = read_window(call, x, kernel);
  for (size_t i = window.first; i < kSpatialAxes; ++i) {
    const operators::WindowStops stops = operators::window_stops(window.axes[i], window.image[i]);
    window.begin[i] = stops.begin;
    window.end[i] = stops.end;
    window.stops[i] = stops.count;
    if (window.stops[i] < 1) {
      call.refuse("a window of {} does not fit {} elements and pads {}, {}",
                  window.axes[i].extent(), window.image[i], window.begin[i], window.end[i]);
    }
  }
  return window;
}

Window transposed_window(const OperatorCall& call, const Tensor& x,
                         std::span<const int64_t> kernel) {
  Window window = read_window(call, x, kernel);
  std::swap(window.image, window.stops);
  for (size_t i = window.first; i < kSpatialAxes; ++i) {
    const auto extent = operators::transposed_extent(window.axes[i], window.stops[i]);
    window.begin[i] = extent.begin;
    window.image[i] = extent.count;
    if (window.image[i] < 1) call.refuse("nothing is left of axis {} of the result", i);
  }
  return window;
}

}  // namespace packlight::runtime

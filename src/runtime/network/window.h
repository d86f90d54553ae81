#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "operators/window.h"
#include "runtime/network/operator.h"

// How a window moves over the spatial axes of [batch, channels, spatial...], for convolution and
// pooling. One and two axes are treated as three, the first ones of size 1.
namespace packlight::runtime {

inline constexpr size_t kSpatialAxes = 3;
using Spatial = std::array<int64_t, kSpatialAxes>;

using operators::AutoPad;
using operators::WindowAxis;

// A node's window over an image, and where it stops. For convolution and pooling the image is the
// input and the stops are the output's elements; for a transposed convolution the stops are the
// input's and the image is the output.
struct Window {
  std::array<WindowAxis, kSpatialAxes> axes;
  Spatial image = {1, 1, 1}, stops = {1, 1, 1};
  Spatial begin = {0, 0, 0};  // padding before the first element, auto_pad resolved
  Spatial end = {0, 0, 0};    // and after the last, so that the last window ends inside
  size_t first = 0;           // the first axis that the node has

  int64_t image_size() const { return image[0] * image[1] * image[2]; }
  int64_t stop_count() const { return stops[0] * stops[1] * stops[2]; }
  int64_t kernel_size() const { return axes[0].kernel * axes[1].kernel * axes[2].kernel; }
  // [batch, channels, those sizes of the axes that the node has]
  std::vector<int64_t> dims(int64_t batch, int64_t channels, const Spatial& sizes) const;
  // The stops [low, high) of `axis` for which tap `tap` of the window is inside the image.
  struct Range {
    int64_t low, high;
  };
  Range inside(size_t axis, int64_t tap) const;
  // The image's index under tap `tap` of the window's stop `stop`; may be outside.
  int64_t position(size_t axis, int64_t stop, int64_t tap) const {
    return stop * axes[axis].stride + tap * axes[axis].dilation - begin[axis];
  }
};

// The window of a node over x [batch, channels, spatial...], with a kernel of those sizes. Errors:
// InvalidArgument for attributes that break a rule, more than three spatial axes, and a window that
// does not fit.
Window window_over(const OperatorCall& call, const Tensor& x, std::span<const int64_t> kernel);
// The same of a transposed convolution over x.
Window transposed_window(const OperatorCall& call, const Tensor& x,
                         std::span<const int64_t> kernel);

}  // namespace packlight::runtime

#pragma once

#include <cstdint>
#include <string>
#include <vector>

// How a window moves over the spatial axes of [batch, channels, spatial...], for convolution and
// pooling.
namespace packlight::operators {

enum class AutoPad : uint8_t { kNotSet, kSameUpper, kSameLower, kValid };

// One spatial axis. kernel, stride, dilation in [1, 2^30]; pads in [0, 2^30].
struct WindowAxis {
  int64_t kernel = 1, stride = 1, dilation = 1;
  int64_t begin = 0, end = 0;  // pads; meaningless when auto_pad chooses them
  AutoPad auto_pad = AutoPad::kNotSet;
  bool ceil = false;           // a last window that is not whole counts
  int64_t output_padding = 0;  // of a transposed convolution, as is the next
  int64_t output_size = -1;    // -1: follows from the others

  // What a window covers, gaps included.
  int64_t extent() const { return (kernel - 1) * dilation + 1; }
  // auto_pad keeps as many stops as the stride leaves elements.
  bool same() const { return auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower; }
  // The window stops at as many places as the axis has elements, whatever their number.
  bool keeps_size() const {
    const int64_t pads = auto_pad == AutoPad::kValid ? 0 : begin + end;
    return stride == 1 && (same() || pads == extent() - 1);
  }
};
using Window = std::vector<WindowAxis>;

inline constexpr int64_t kMaxWindowNumber = int64_t{1} << 30;
inline constexpr int64_t kMaxWindowInput = int64_t{1} << 32;  // no product overflows up to here

// What a node says of its window; a list is empty where it says nothing.
struct WindowAttributes {
  std::vector<int64_t> kernel_shape, strides, dilations, pads, output_padding, output_shape;
  std::string auto_pad;
  bool ceil = false;
};
template <class Node>
WindowAttributes window_attributes(const Node& node) {
  return {node.integers("kernel_shape"),   node.integers("strides"),
          node.integers("dilations"),      node.integers("pads"),
          node.integers("output_padding"), node.integers("output_shape"),
          node.text("auto_pad", "NOTSET"), node.integer("ceil_mode", 0) != 0};
}

// The window with a kernel of those sizes. Errors: InvalidArgument saying which rule the attributes
// break (the caller knows at which node).
Window read_window(const WindowAttributes& attributes, const std::vector<int64_t>& kernel);

// Where the window stops on an axis of `size` elements.
struct WindowStops {
  int64_t begin = 0, end = 0;  // pads, of which `end` lets the last window end inside
  int64_t count = 0;           // of stops, which is the output's size; < 1: the window does not fit
};
// Convolution and pooling. size in [0, kMaxWindowInput].
WindowStops window_stops(const WindowAxis& axis, int64_t size);

// A transposed convolution makes of `size` elements an axis of `full` elements, puts the missing
// zeros behind them, takes `begin` away in front and keeps `count`.
struct TransposedExtent {
  int64_t full = 0, begin = 0, count = 0;  // count < 1: nothing is left
};
TransposedExtent transposed_extent(const WindowAxis& axis, int64_t size);

}  // namespace packlight::operators

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"

// How a window moves over the spatial axes of [batch, channels, spatial...]: the arithmetic that
// the rules and the executions of convolution and pooling share.
namespace packlight::graph {

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
  // The window stops at as many places as the axis has elements, whatever their number.
  bool keeps_size() const {
    const bool same = auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower;
    const int64_t pads = auto_pad == AutoPad::kValid ? 0 : begin + end;
    return stride == 1 && (same || pads == extent() - 1);
  }
};
using Window = std::vector<WindowAxis>;

inline constexpr int64_t kMaxWindowNumber = int64_t{1} << 30;
inline constexpr int64_t kMaxWindowInput = int64_t{1} << 32;  // no product overflows up to here

// Reads strides, dilations, pads, auto_pad, ceil_mode, output_padding and output_shape of a node
// for a kernel of those sizes. Returns "", or the rule that the attributes break (and no window).
std::string read_window(const Node& node, const std::vector<int64_t>& kernel, Window& window);

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

}  // namespace packlight::graph

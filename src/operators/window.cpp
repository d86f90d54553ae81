#include "operators/window.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/fail.h"

namespace packlight::operators {
namespace {

// `count` numbers, or none: the fallback.
std::vector<int64_t> numbers(std::vector<int64_t> given, const char* name, size_t count,
                             int64_t low, int64_t fallback) {
  if (given.empty()) given.assign(count, fallback);
  if (given.size() != count) {
    fail(ErrorCode::kInvalidArgument, "{} has {} entries, {} are needed", name, given.size(),
         count);
  }
  for (const int64_t number : given) {
    if (number < low || number > kMaxWindowNumber)
      fail(ErrorCode::kInvalidArgument, "{} holds {}, which is not in [{}, {}]", name, number, low,
           kMaxWindowNumber);
  }
  return given;
}

AutoPad auto_pad_of(const std::string& text) {
  if (text == "NOTSET" || text.empty()) return AutoPad::kNotSet;
  if (text == "SAME_UPPER") return AutoPad::kSameUpper;
  if (text == "SAME_LOWER") return AutoPad::kSameLower;
  if (text == "VALID") return AutoPad::kValid;
  fail(ErrorCode::kInvalidArgument,
       "auto_pad '{}' is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID", text);
}

// The pads of a `total`: the odd one goes where auto_pad says.
int64_t begin_of(AutoPad auto_pad, int64_t total) {
  return auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
}

}  // namespace

Window read_window(const WindowAttributes& attributes, const std::vector<int64_t>& kernel) {
  const size_t count = kernel.size();
  if (!attributes.kernel_shape.empty() && attributes.kernel_shape != kernel) {
    fail(ErrorCode::kInvalidArgument, "kernel_shape [{}] is not the kernel's [{}]",
         fmt::join(attributes.kernel_shape, ", "), fmt::join(kernel, ", "));
  }
  for (const int64_t size : kernel) {
    if (size < 1 || size > kMaxWindowNumber)
      fail(ErrorCode::kInvalidArgument, "a kernel of size {}", size);
  }
  const AutoPad auto_pad = auto_pad_of(attributes.auto_pad);
  const auto strides = numbers(attributes.strides, "strides", count, 1, 1),
             dilations = numbers(attributes.dilations, "dilations", count, 1, 1),
             pads = numbers(attributes.pads, "pads", 2 * count, 0, 0),
             paddings = numbers(attributes.output_padding, "output_padding", count, 0, 0),
             sizes = numbers(attributes.output_shape, "output_shape", count, -1, -1);
  Window window;
  for (size_t i = 0; i < count; ++i) {
    window.push_back({kernel[i], strides[i], dilations[i], pads[i], pads[count + i], auto_pad,
                      attributes.ceil, paddings[i], sizes[i]});
  }
  return window;
}

WindowStops window_stops(const WindowAxis& axis, int64_t size) {
  WindowStops stops;
  const int64_t extent = axis.extent(), stride = axis.stride;
  if (axis.same()) {
    stops.count = (size + stride - 1) / stride;
    const int64_t total = std::max<int64_t>(0, (stops.count - 1) * stride + extent - size);
    stops.begin = begin_of(axis.auto_pad, total);
    stops.end = total - stops.begin;
    return stops;
  }
  if (axis.auto_pad == AutoPad::kNotSet) {
    stops.begin = axis.begin;
    stops.end = axis.end;
  }
  const int64_t room = size + stops.begin + stops.end - extent;
  const bool ceil = axis.ceil && axis.auto_pad == AutoPad::kNotSet;
  if (room < 0 && !(ceil && room > -stride)) return stops;
  stops.count = (ceil ? room + stride - 1 : room) / stride + 1;
  // A window that begins behind the last element sees padding only.
  if (ceil && (stops.count - 1) * stride >= size + stops.begin) --stops.count;
  if (ceil) {
    const int64_t needed = (stops.count - 1) * stride + extent - size - stops.begin;
    stops.end = std::max(stops.end, needed);
  }
  return stops;
}

TransposedExtent transposed_extent(const WindowAxis& axis, int64_t size) {
  TransposedExtent result;
  if (size < 1) return result;
  result.full = axis.stride * (size - 1) + axis.extent();
  const int64_t whole = result.full + axis.output_padding;
  if (axis.output_size >= 0 || axis.same()) {
    result.count = axis.output_size >= 0 ? axis.output_size : size * axis.stride;
    result.begin = begin_of(axis.auto_pad, std::max<int64_t>(0, whole - result.count));
    return result;
  }
  const bool padded = axis.auto_pad == AutoPad::kNotSet;
  result.begin = padded ? axis.begin : 0;
  result.count = whole - result.begin - (padded ? axis.end : 0);
  return result;
}

}  // namespace packlight::operators

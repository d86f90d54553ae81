#include "graph/window.h"

#include <fmt/format.h>

#include <algorithm>

namespace packlight::graph {
namespace {

struct Bounds {
  int64_t low;
  int64_t high = kMaxWindowNumber;
};

// An attribute of `count` numbers, or of none: the fallback. Returns the rule that is broken, or
// "".
std::string read_numbers(const Node& node, const char* name, size_t count, Bounds bounds,
                         int64_t fallback, std::vector<int64_t>& numbers) {
  numbers = node.integers(name);
  if (numbers.empty()) numbers.assign(count, fallback);
  if (numbers.size() != count) {
    return fmt::format("{} has {} entries, {} spatial axes need {}", name, numbers.size(), count,
                       count);
  }
  for (const int64_t number : numbers) {
    if (number < bounds.low || number > bounds.high)
      return fmt::format("{} holds {}, which is not in [{}, {}]", name, number, bounds.low,
                         bounds.high);
  }
  return "";
}

std::string read_auto_pad(const Node& node, AutoPad& auto_pad) {
  const std::string text = node.text("auto_pad", "NOTSET");
  if (text == "NOTSET" || text.empty()) {
    auto_pad = AutoPad::kNotSet;
  } else if (text == "SAME_UPPER") {
    auto_pad = AutoPad::kSameUpper;
  } else if (text == "SAME_LOWER") {
    auto_pad = AutoPad::kSameLower;
  } else if (text == "VALID") {
    auto_pad = AutoPad::kValid;
  } else {
    return fmt::format("auto_pad '{}' is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID", text);
  }
  return "";
}

// The pads of a `total`: the odd one goes where auto_pad says.
int64_t begin_of(AutoPad auto_pad, int64_t total) {
  return auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
}

}  // namespace

std::string read_window(const Node& node, const std::vector<int64_t>& kernel, Window& window) {
  window.clear();
  const size_t count = kernel.size();
  const std::vector<int64_t> given = node.integers("kernel_shape");
  if (!given.empty() && given != kernel)
    return fmt::format("kernel_shape [{}] is not the kernel's [{}]", fmt::join(given, ", "),
                       fmt::join(kernel, ", "));
  for (const int64_t size : kernel) {
    if (size < 1 || size > kMaxWindowNumber) return fmt::format("a kernel of size {}", size);
  }
  AutoPad auto_pad{};
  std::vector<int64_t> strides, dilations, pads, paddings, sizes;
  std::string broken = read_auto_pad(node, auto_pad);
  const auto read = [&](const char* name, size_t wanted, int64_t low, int64_t fallback,
                        std::vector<int64_t>& numbers) {
    if (broken.empty()) broken = read_numbers(node, name, wanted, {low}, fallback, numbers);
  };
  read("strides", count, 1, 1, strides);
  read("dilations", count, 1, 1, dilations);
  read("pads", 2 * count, 0, 0, pads);
  read("output_padding", count, 0, 0, paddings);
  read("output_shape", count, -1, -1, sizes);
  if (!broken.empty()) return broken;
  const bool ceil = node.integer("ceil_mode", 0) != 0;
  for (size_t i = 0; i < count; ++i) {
    window.push_back({kernel[i], strides[i], dilations[i], pads[i], pads[count + i], auto_pad, ceil,
                      paddings[i], sizes[i]});
  }
  return "";
}

WindowStops window_stops(const WindowAxis& axis, int64_t size) {
  WindowStops stops;
  const int64_t extent = axis.extent(), stride = axis.stride;
  if (axis.auto_pad == AutoPad::kSameUpper || axis.auto_pad == AutoPad::kSameLower) {
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
  const bool same = axis.auto_pad == AutoPad::kSameUpper || axis.auto_pad == AutoPad::kSameLower;
  if (axis.output_size >= 0 || same) {
    result.count = axis.output_size >= 0 ? axis.output_size : size * axis.stride;
    result.begin = begin_of(axis.auto_pad, std::max<int64_t>(0, whole - result.count));
    return result;
  }
  const bool padded = axis.auto_pad == AutoPad::kNotSet;
  result.begin = padded ? axis.begin : 0;
  result.count = whole - result.begin - (padded ? axis.end : 0);
  return result;
}

}  // namespace packlight::graph

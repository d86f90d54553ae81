#include "runtime/network/window.h"

#include <algorithm>

namespace packlight::runtime {
namespace {

constexpr int64_t kMostNumber = int64_t{1} << 30;
constexpr int64_t kMostInput = int64_t{1} << 32;  // no product overflows up to here

// An attribute of `count` numbers, or of none: the fallback.
std::vector<int64_t> numbers(const OperatorCall& call, const char* name, size_t count, int64_t low,
                             int64_t fallback) {
  std::vector<int64_t> values = call.node.integers(name);
  if (values.empty()) values.assign(count, fallback);
  if (values.size() != count)
    call.refuse("{} has {} entries, {} are needed", name, values.size(), count);
  for (const int64_t value : values) {
    if (value < low || value > kMostNumber)
      call.refuse("{} holds {}, which is not in [{}, {}]", name, value, low, kMostNumber);
  }
  return values;
}

AutoPad auto_pad_of(const OperatorCall& call) {
  const std::string text = call.node.text("auto_pad", "NOTSET");
  if (text == "NOTSET" || text.empty()) return AutoPad::kNotSet;
  if (text == "SAME_UPPER") return AutoPad::kSameUpper;
  if (text == "SAME_LOWER") return AutoPad::kSameLower;
  if (text != "VALID")
    call.refuse("auto_pad '{}' is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID", text);
  return AutoPad::kValid;
}

bool keeps_size(AutoPad auto_pad) {
  return auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower;
}

// The pads of a `total`: the odd one goes where auto_pad says.
int64_t begin_of(AutoPad auto_pad, int64_t total) {
  return auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
}

void check_shapes(const OperatorCall& call, const Tensor& x, std::span<const int64_t> kernel) {
  const size_t rank = x.dims.size();
  if (rank < 3) call.refuse("input {} has no spatial axis", to_string(x.dims));
  if (rank > 2 + kSpatialAxes)
    call.refuse("{} spatial axes: at most {} are supported", rank - 2, kSpatialAxes);
  if (kernel.size() != rank - 2)
    call.refuse("a kernel of {} axes on an input {}", kernel.size(), to_string(x.dims));
  for (const int64_t size : kernel) {
    if (size < 1 || size > kMostNumber) call.refuse("a kernel of size {}", size);
  }
  for (size_t i = 2; i < rank; ++i) {
    if (x.dims[i] > kMostInput) call.refuse("a spatial axis of {} elements", x.dims[i]);
  }
  const std::vector<int64_t> given = call.node.integers("kernel_shape");
  if (!given.empty() && !std::equal(given.begin(), given.end(), kernel.begin(), kernel.end()))
    call.refuse("kernel_shape {} is not the kernel's {}", to_string(given), to_string(kernel));
}

// The axes as the attributes say, and the input's sizes.
Window read_window(const OperatorCall& call, const Tensor& x, std::span<const int64_t> kernel) {
  check_shapes(call, x, kernel);
  const size_t count = kernel.size();
  const AutoPad auto_pad = auto_pad_of(call);
  const auto strides = numbers(call, "strides", count, 1, 1),
             dilations = numbers(call, "dilations", count, 1, 1),
             pads = numbers(call, "pads", 2 * count, 0, 0),
             paddings = numbers(call, "output_padding", count, 0, 0),
             sizes = numbers(call, "output_shape", count, -1, -1);
  const bool ceil = call.node.integer("ceil_mode", 0) != 0;
  Window window;
  window.first = kSpatialAxes - count;
  for (size_t i = 0; i < count; ++i) {
    window.axes[window.first + i] = {kernel[i], strides[i], dilations[i], pads[i], pads[count + i],
                                     auto_pad,  ceil,       paddings[i],  sizes[i]};
    window.image[window.first + i] = x.dims[i + 2];
  }
  return window;
}

// Sets where the window stops on one axis.
void place(Window& window, size_t i) {
  const WindowAxis& axis = window.axes[i];
  const int64_t extent = axis.extent(), stride = axis.stride, size = window.image[i];
  int64_t &begin = window.begin[i], &end = window.end[i], &count = window.stops[i];
  if (keeps_size(axis.auto_pad)) {
    count = (size + stride - 1) / stride;
    const int64_t total = std::max<int64_t>(0, (count - 1) * stride + extent - size);
    begin = begin_of(axis.auto_pad, total);
    end = total - begin;
    return;
  }
  if (axis.auto_pad == AutoPad::kNotSet) {
    begin = axis.begin;
    end = axis.end;
  }
  const int64_t room = size + begin + end - extent;
  const bool ceil = axis.ceil && axis.auto_pad == AutoPad::kNotSet;
  count = 0;
  if (room < 0 && !(ceil && room > -stride)) return;
  count = (ceil ? room + stride - 1 : room) / stride + 1;
  // A window that begins behind the last element sees padding only.
  if (ceil && (count - 1) * stride >= size + begin) --count;
  if (ceil) end = std::max(end, (count - 1) * stride + extent - size - begin);
}

// Sets what is kept of one axis of a transposed convolution: of the `full` elements that it makes,
// `begin` are taken away in front.
void place_transposed(Window& window, size_t i) {
  const WindowAxis& axis = window.axes[i];
  const int64_t size = window.stops[i];
  int64_t &begin = window.begin[i], &count = window.image[i];
  count = 0;
  if (size < 1) return;
  const int64_t whole = axis.stride * (size - 1) + axis.extent() + axis.output_padding;
  if (axis.output_size >= 0 || keeps_size(axis.auto_pad)) {
    count = axis.output_size >= 0 ? axis.output_size : size * axis.stride;
    begin = begin_of(axis.auto_pad, std::max<int64_t>(0, whole - count));
    return;
  }
  const bool padded = axis.auto_pad == AutoPad::kNotSet;
  begin = padded ? axis.begin : 0;
  count = whole - begin - (padded ? axis.end : 0);
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
    place(window, i);
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
    place_transposed(window, i);
    if (window.image[i] < 1) call.refuse("nothing is left of axis {} of the result", i);
  }
  return window;
}

}  // namespace packlight::runtime

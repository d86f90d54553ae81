#include <ATen/ATen.h>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

// LibTorch's convolutions know 1 to 3 spatial axes.
void check_convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       int64_t groups, bool transposed) {
  if (x.dim() < 3 || weight.dim() != x.dim()) {
    fail(ErrorCode::kInvalidArgument, "input of rank {} and weight of rank {} must be equal, >= 3",
         x.dim(), weight.dim());
  }
  if (x.dim() > 5)
    fail(ErrorCode::kUnsupported, "{} spatial axes: at most 3 are supported", x.dim() - 2);
  if (groups < 1 || weight.size(0) % groups != 0) {
    fail(ErrorCode::kInvalidArgument, "group {} does not divide the weight's {} channels", groups,
         weight.size(0));
  }
  const int64_t takes = transposed ? weight.size(0) : weight.size(1) * groups;
  if (takes != x.size(1)) {
    fail(ErrorCode::kInvalidArgument, "the input has {} channels, the weight takes {}", x.size(1),
         takes);
  }
  const int64_t makes = transposed ? weight.size(1) * groups : weight.size(0);
  if (bias.defined() && (bias.dim() != 1 || bias.size(0) != makes))
    fail(ErrorCode::kInvalidArgument, "the bias is no vector of {} elements", makes);
}

// One attribute of every axis.
std::vector<int64_t> each(const operators::Window& window, int64_t operators::WindowAxis::*member) {
  std::vector<int64_t> values;
  for (const operators::WindowAxis& axis : window) values.push_back(axis.*member);
  return values;
}

at::Tensor bias_of(const Call& call) { return call.has(2) ? call.inputs[2] : at::Tensor(); }

Outputs conv(const Call& call) {
  const at::Tensor &x = call.inputs[0], &weight = call.inputs[1];
  return {convolution(x, weight, bias_of(call), kernel_window(call.node, x, weight),
                      call.node.integer("group", 1))};
}

Outputs conv_transpose(const Call& call) {
  const at::Tensor &x = call.inputs[0], &weight = call.inputs[1], bias = bias_of(call);
  const operators::Window window = kernel_window(call.node, x, weight);
  const int64_t groups = call.node.integer("group", 1);
  check_convolution(x, weight, bias, groups, /*transposed=*/true);
  const size_t count = window.size();
  std::vector<int64_t> padding(count), missing(count), crop(2 * count);
  bool plain = true;  // LibTorch takes away as much on both sides and adds less than a stride
  for (size_t i = 0; i < count; ++i) {
    const auto extent =
        operators::transposed_extent(window[i], x.size(static_cast<int64_t>(i) + 2));
    if (extent.count < 1)
      fail(ErrorCode::kInvalidArgument, "nothing is left of axis {} of the result", i + 2);
    padding[i] = extent.begin;
    missing[i] = extent.count - (extent.full - 2 * extent.begin);
    plain = plain && missing[i] >= 0 && missing[i] < std::max(window[i].stride, window[i].dilation);
    const size_t last = 2 * (count - 1 - i);  // constant_pad_nd counts from the last axis on
    crop[last] = -extent.begin;
    crop[last + 1] = extent.begin + extent.count - extent.full;
  }
  const auto strides = each(window, &operators::WindowAxis::stride),
             dilations = each(window, &operators::WindowAxis::dilation);
  if (plain)
    return {at::convolution(x, weight, bias, strides, padding, dilations, true, missing, groups)};
  const std::vector<int64_t> none(count, 0);
  at::Tensor out = at::constant_pad_nd(
      at::convolution(x, weight, {}, strides, none, dilations, true, none, groups), crop);
  if (bias.defined()) {
    std::vector<int64_t> by_channel(out.dim(), 1);
    by_channel[1] = bias.size(0);
    out = out + bias.view(by_channel);
  }
  return {out};
}

constexpr OperatorEntry kOperators[] = {
    {"Conv", conv},
    {"ConvTranspose", conv_transpose},
};

}  // namespace

operators::Window kernel_window(const graph::Node& node, const at::Tensor& x,
                                const at::Tensor& weight) {
  if (x.dim() < 3 || weight.dim() != x.dim()) {
    fail(ErrorCode::kInvalidArgument, "input of rank {} and weight of rank {} must be equal, >= 3",
         x.dim(), weight.dim());
  }
  return node_window(node, x, weight.sizes().slice(2).vec());
}

operators::Window node_window(const graph::Node& node, const at::Tensor& x,
                              const std::vector<int64_t>& kernel) {
  if (static_cast<int64_t>(kernel.size()) != x.dim() - 2) {
    fail(ErrorCode::kInvalidArgument, "a kernel of {} axes on an input of rank {}", kernel.size(),
         x.dim());
  }
  return operators::read_window(operators::window_attributes(node), kernel);
}

std::vector<operators::WindowStops> stops_of(const operators::Window& window, const at::Tensor& x) {
  std::vector<operators::WindowStops> stops;
  for (size_t i = 0; i < window.size(); ++i) {
    const int64_t size = x.size(static_cast<int64_t>(i) + 2);
    if (size > operators::kMaxWindowInput)
      fail(ErrorCode::kInvalidArgument, "a spatial axis of {} elements", size);
    stops.push_back(operators::window_stops(window[i], size));
    if (stops.back().count < 1) {
      fail(ErrorCode::kInvalidArgument, "a window of {} does not fit {} elements and pads {}, {}",
           window[i].extent(), size, stops.back().begin, stops.back().end);
    }
  }
  return stops;
}

at::Tensor pad_spatial(const at::Tensor& x, const std::vector<operators::WindowStops>& stops,
                       const at::Scalar& value) {
  std::vector<int64_t> pads;  // from the last axis on
  for (auto it = stops.rbegin(); it != stops.rend(); ++it) {
    pads.push_back(it->begin);
    pads.push_back(it->end);
  }
  return at::constant_pad_nd(x, pads, value);
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const operators::Window& window, int64_t groups) {
  check_convolution(x, weight, bias, groups, /*transposed=*/false);
  const std::vector<operators::WindowStops> stops = stops_of(window, x);
  bool even = true;  // as much padding in front as behind, which LibTorch does itself
  std::vector<int64_t> padding;
  for (const operators::WindowStops& stop : stops) {
    even = even && stop.begin == stop.end;
    padding.push_back(stop.begin);
  }
  const std::vector<int64_t> none(window.size(), 0);
  return at::convolution(even ? x : pad_spatial(x, stops, 0), weight, bias,
                         each(window, &operators::WindowAxis::stride), even ? padding : none,
                         each(window, &operators::WindowAxis::dilation), false, none, groups);
}

std::span<const OperatorEntry> convolution_operators() { return kOperators; }

}  // namespace packlight::exec

#include <ATen/ATen.h>

#include <limits>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;
using Stops = std::vector<operators::WindowStops>;

// A pooling node over x [batch, channels, spatial...].
struct Pooling {
  operators::Window window;
  Stops stops;
  int64_t axes() const { return static_cast<int64_t>(window.size()); }
};

Pooling pooling_of(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  if (x.dim() < 3)
    fail(ErrorCode::kInvalidArgument, "input of rank {} has no spatial axis", x.dim());
  Pooling it;
  it.window = node_window(call.node, x, call.node.integers("kernel_shape"));
  it.stops = stops_of(it.window, x);
  return it;
}

// What LibTorch pools itself: one or two axes, pads that are equal in front and behind and at most
// half a kernel, and as many windows as the node says.
struct Plain {
  bool possible = false;
  std::vector<int64_t> kernel, stride, padding, dilation;
};
Plain plain_form(const Pooling& it, const at::Tensor& x) {
  Plain plain;
  plain.possible = it.axes() == 2 && x.scalar_type() == at::kFloat && x.numel() > 0;
  for (int64_t i = 0; i < it.axes(); ++i) {
    const operators::WindowAxis& axis = it.window[i];
    const operators::WindowStops& stops = it.stops[i];
    plain.possible =
        plain.possible && !axis.ceil && stops.begin == stops.end && 2 * stops.begin <= axis.kernel;
    plain.kernel.push_back(axis.kernel);
    plain.stride.push_back(axis.stride);
    plain.padding.push_back(stops.begin);
    plain.dilation.push_back(axis.dilation);
  }
  return plain;
}

// A padded tensor's windows along one spatial axis as a last axis: a view.
at::Tensor windows(const at::Tensor& padded, const Pooling& it, int64_t i) {
  const operators::WindowAxis& axis = it.window[i];
  return padded.unfold(i + 2, axis.extent(), axis.stride)
      .narrow(i + 2, 0, it.stops[i].count)
      .slice(-1, 0, axis.extent(), axis.dilation);
}

// Sums over windows: over one axis after the other.
at::Tensor window_sums(at::Tensor padded, const Pooling& it) {
  for (int64_t i = it.axes() - 1; i >= 0; --i) padded = windows(padded, it, i).sum(-1);
  return padded;
}

at::Scalar lowest(at::ScalarType type) {
  switch (type) {
    case at::kByte:
    case at::kBool:
      return 0;
    case at::kChar:
      return std::numeric_limits<int8_t>::min();
    case at::kShort:
      return std::numeric_limits<int16_t>::min();
    case at::kInt:
      return std::numeric_limits<int32_t>::min();
    case at::kLong:
      return std::numeric_limits<int64_t>::min();
    default:
      return -std::numeric_limits<double>::infinity();
  }
}

// The number of each element in its plane, rows first or (storage_order) columns first.
at::Tensor element_numbers(const at::Tensor& x, bool columns_first) {
  const at::IntArrayRef sizes = x.sizes().slice(2);
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  const at::Tensor numbers = at::arange(count, at::kLong);
  if (!columns_first) return numbers.view(sizes);
  const std::vector<int64_t> reversed(sizes.rbegin(), sizes.rend());
  std::vector<int64_t> turned;
  for (int64_t i = static_cast<int64_t>(sizes.size()) - 1; i >= 0; --i) turned.push_back(i);
  return numbers.view(reversed).permute(turned);
}

// The largest element of every window, and where it is among all elements of x.
Outputs max_with_indices(const at::Tensor& x, const Pooling& it, bool columns_first) {
  at::Tensor best = pad_spatial(x, it.stops, lowest(x.scalar_type()));
  at::Tensor where = pad_spatial(element_numbers(x, columns_first).expand_as(x), it.stops, -1);
  // From the last axis on: of equal elements the first in row order wins.
  for (int64_t i = it.axes() - 1; i >= 0; --i) {
    const auto [values, positions] = windows(best, it, i).max(-1);
    where = windows(where, it, i).gather(-1, positions.unsqueeze(-1)).squeeze(-1);
    best = values;
  }
  const int64_t planes = x.size(0) * x.size(1), elements = planes == 0 ? 0 : x.numel() / planes;
  std::vector<int64_t> by_plane(x.dim(), 1);
  by_plane[0] = x.size(0);
  by_plane[1] = x.size(1);
  return {best, where + (at::arange(planes, at::kLong) * elements).view(by_plane)};
}

Outputs max_pool(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const Pooling it = pooling_of(call);
  if (call.node.outputs.size() > 1)
    return max_with_indices(x, it, call.node.integer("storage_order", 0) != 0);
  if (const Plain plain = plain_form(it, x); plain.possible)
    return {at::max_pool2d(x, plain.kernel, plain.stride, plain.padding, plain.dilation)};
  at::Tensor best = pad_spatial(x, it.stops, lowest(x.scalar_type()));
  for (int64_t i = it.axes() - 1; i >= 0; --i) best = std::get<0>(windows(best, it, i).max(-1));
  return {best};
}

// How many elements each window averages over: a product of one count an axis. Padding counts if
// asked for, what lies behind it (the rest of a last window that is not whole) never.
at::Tensor window_counts(const at::Tensor& x, const Pooling& it, bool with_padding) {
  at::Tensor counts = at::ones({1, 1}, x.options());
  for (int64_t i = 0; i < it.axes(); ++i) {
    const operators::WindowStops& stops = it.stops[i];
    const operators::WindowAxis& axis = it.window[i];
    const int64_t first = with_padding ? 0 : stops.begin, size = x.size(i + 2);
    const bool declared = axis.auto_pad == operators::AutoPad::kNotSet;
    const int64_t last =
        size + stops.begin + (with_padding ? (declared ? axis.end : stops.end) : 0);
    at::Tensor places = at::zeros({size + stops.begin + stops.end}, x.options());
    places.slice(0, first, last).fill_(1);
    const at::Tensor seen = places.unfold(0, axis.extent(), axis.stride)
                                .narrow(0, 0, stops.count)
                                .slice(-1, 0, axis.extent(), axis.dilation)
                                .sum(-1);
    counts = counts.unsqueeze(-1) * seen;
  }
  return at::clamp_min(counts, 1);  // a window of padding only averages to zero
}

Outputs average_pool(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const Pooling it = pooling_of(call);
  const bool with_padding = call.node.integer("count_include_pad", 0) != 0;
  const Plain plain = plain_form(it, x);
  const bool dense = plain.dilation == std::vector<int64_t>(it.window.size(), 1);
  if (plain.possible && dense) {
    return {at::avg_pool2d(x, plain.kernel, plain.stride, plain.padding, /*ceil_mode=*/false,
                           with_padding)};
  }
  return {window_sums(pad_spatial(x, it.stops, 0), it) / window_counts(x, it, with_padding)};
}

// (sum |x|^p)^(1/p) from the sums; the gradient at a sum of zero is zero.
at::Tensor root(const at::Tensor& sums, int64_t p) {
  if (p == 1) return sums;
  const at::Tensor none = sums == 0;
  return at::pow(sums.masked_fill(none, 1), 1.0 / static_cast<double>(p)).masked_fill(none, 0);
}

at::Tensor powers(const at::Tensor& x, int64_t p) {
  if (p < 1) fail(ErrorCode::kInvalidArgument, "p is {}, not positive", p);
  return p == 2 ? x * x : at::pow(at::abs(x), p);
}

Outputs lp_pool(const Call& call) {
  const int64_t p = call.node.integer("p", 2);
  const Pooling it = pooling_of(call);
  return {root(window_sums(pad_spatial(powers(call.inputs[0], p), it.stops, 0), it), p)};
}

std::vector<int64_t> spatial_axes(const at::Tensor& x) {
  if (x.dim() < 3)
    fail(ErrorCode::kInvalidArgument, "input of rank {} has no spatial axis", x.dim());
  std::vector<int64_t> axes;
  for (int64_t i = 2; i < x.dim(); ++i) axes.push_back(i);
  return axes;
}

Outputs global_average_pool(const Call& call) {
  return {at::mean(call.inputs[0], spatial_axes(call.inputs[0]), /*keepdim=*/true)};
}

Outputs global_max_pool(const Call& call) {
  return {at::amax(call.inputs[0], spatial_axes(call.inputs[0]), /*keepdim=*/true)};
}

Outputs global_lp_pool(const Call& call) {
  const int64_t p = call.node.integer("p", 2);
  return {root(at::sum(powers(call.inputs[0], p), spatial_axes(call.inputs[0]), true), p)};
}

constexpr OperatorEntry kOperators[] = {
    {"MaxPool", max_pool},
    {"AveragePool", average_pool},
    {"LpPool", lp_pool},
    {"GlobalAveragePool", global_average_pool},
    {"GlobalMaxPool", global_max_pool},
    {"GlobalLpPool", global_lp_pool},
};

}  // namespace

std::span<const OperatorEntry> pooling_operators() { return kOperators; }

}  // namespace packlight::exec

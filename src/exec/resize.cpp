#include "operators/resize.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

using operators::ResizeAxis;
using operators::ResizeSettings;

// A vector along `axis` of a tensor of that rank.
at::Tensor along(const at::Tensor& vector, int64_t axis, int64_t rank) {
  std::vector<int64_t> shape(rank, 1);
  shape[axis] = vector.numel();
  return vector.contiguous().view(shape);
}

at::Tensor interpolate(const at::Tensor& x, const ResizeAxis& axis,
                       const operators::ResizeTaps& taps) {
  const std::vector<int64_t> shape{axis.out, taps.count};
  const at::Tensor indices = at::tensor(taps.indices, at::kLong).view(shape),
                   weights = at::tensor(taps.weights, at::kDouble).view(shape).to(x.scalar_type());
  constexpr int64_t kFew = 4;  // linear and cubic; an antialiased filter is a matrix product
  if (taps.count > kFew) {
    const at::Tensor matrix =
        at::zeros({axis.out, axis.in}, weights.options()).scatter_add(1, indices, weights);
    return at::matmul(x.transpose(axis.axis, -1), matrix.t()).transpose(axis.axis, -1);
  }
  at::Tensor sum;
  for (int64_t k = 0; k < taps.count; ++k) {
    const at::Tensor term = at::index_select(x, axis.axis, indices.select(1, k).contiguous()) *
                            along(weights.select(1, k), axis.axis, x.dim());
    sum = sum.defined() ? sum + term : term;
  }
  return sum;
}

at::Tensor resize_axis(const at::Tensor& input, const ResizeAxis& axis,
                       const ResizeSettings& settings) {
  const std::vector<double> x = operators::resize_coordinates(axis, settings);
  at::Tensor out;
  if (settings.mode == "nearest") {
    const std::vector<int64_t> indices = operators::nearest_elements(x, axis, settings);
    out = at::index_select(input, axis.axis, at::tensor(indices, at::kLong));
  } else {
    out = interpolate(input, axis, operators::resize_taps(x, axis, settings));
  }
  if (!settings.crops()) return out;
  at::Tensor outside = at::zeros({axis.out}, at::kBool);
  for (int64_t y = 0; y < axis.out; ++y)
    outside.data_ptr<bool>()[y] = x[y] < 0 || x[y] > static_cast<double>(axis.in - 1);
  return out.masked_fill(along(outside, axis.axis, out.dim()), settings.extrapolation);
}

// Whether LibTorch, which computes in F32, takes the same elements.
bool same_nearest(const ResizeAxis& axis, const ResizeSettings& settings) {
  const auto want =
      operators::nearest_elements(operators::resize_coordinates(axis, settings), axis, settings);
  const float step = static_cast<float>(axis.in) / static_cast<float>(axis.out);
  for (int64_t y = 0; y < axis.out; ++y) {
    int64_t got =
        std::min(static_cast<int64_t>(std::floor(static_cast<float>(y) * step)), axis.in - 1);
    if (axis.out == axis.in) got = y;
    if (axis.out == 2 * axis.in) got = y / 2;
    if (got != want[y]) return false;
  }
  return true;
}

bool same_linear(const ResizeAxis& axis, const ResizeSettings& settings, bool align) {
  constexpr double kClose = 0x1p-20;  // of an element's distance: what F32 leaves of a weight
  const std::vector<double> want = operators::resize_coordinates(axis, settings);
  const auto in = static_cast<float>(axis.in), out = static_cast<float>(axis.out);
  const float step = align ? (axis.out > 1 ? (in - 1) / (out - 1) : 0) : in / out;
  for (int64_t y = 0; y < axis.out; ++y) {
    const auto at = static_cast<float>(y);
    const float got = align ? at * step : std::max(0.F, step * (at + 0.5F) - 0.5F);
    if (std::abs(std::clamp<double>(want[y], 0, in - 1) - std::clamp<double>(got, 0, in - 1)) >
        kClose)
      return false;
  }
  return true;
}

// Images in one pass, where LibTorch's result is the specification's.
std::optional<at::Tensor> resize_image(const at::Tensor& x, const std::vector<ResizeAxis>& axes,
                                       const ResizeSettings& settings) {
  if (x.dim() != 4 || x.scalar_type() != at::kFloat || settings.crops() || axes.size() != 2 ||
      axes[0].axis != 2 || axes[1].axis != 3 || x.numel() == 0)
    return std::nullopt;
  const std::vector<int64_t> size{axes[0].out, axes[1].out};
  if (settings.mode == "nearest") {
    if (!same_nearest(axes[0], settings) || !same_nearest(axes[1], settings)) return std::nullopt;
    return at::upsample_nearest2d(x, size);
  }
  const bool shrinks = axes[0].scale < 1 || axes[1].scale < 1;
  if (settings.mode != "linear" || (settings.antialias && shrinks)) return std::nullopt;
  const bool align = settings.coordinates == "align_corners";
  if (!same_linear(axes[0], settings, align) || !same_linear(axes[1], settings, align))
    return std::nullopt;
  return at::upsample_bilinear2d(x, size, align);
}

std::vector<double> numbers(const at::Tensor& tensor) {
  const at::Tensor wide = tensor.to(at::kDouble).contiguous();
  return {wide.data_ptr<double>(), wide.data_ptr<double>() + wide.numel()};
}

// The axes that change, in order. An empty input counts as absent.
std::vector<ResizeAxis> axes_of(const Call& call, const ResizeSettings& settings) {
  const auto given = [&](size_t i) { return call.has(i) && call.inputs[i].numel() > 0; };
  const auto roi = given(1) ? numbers(call.inputs[1]) : std::vector<double>{},
             scales = given(2) ? numbers(call.inputs[2]) : std::vector<double>{};
  const auto sizes = given(3) ? integers(call.inputs[3]) : std::vector<int64_t>{};
  return operators::resized_axes(settings, call.inputs[0].sizes().vec(), roi, scales, sizes);
}

// To the nearest integer that the type has.
at::Tensor to_integers(const at::Tensor& x, at::ScalarType type) {
  const bool is_unsigned = type == at::kByte;
  const double bits = static_cast<double>(c10::elementSize(type)) * 8;
  const double low = is_unsigned ? 0 : -std::exp2(bits - 1),
               high = is_unsigned ? 255 : std::exp2(bits - 1) - 1;
  return at::clamp(at::round(x.to(at::kDouble)), low, high).to(type);
}

}  // namespace

at::Tensor resize(const Call& call) {
  const ResizeSettings settings = operators::resize_settings(call.node);
  operators::check_settings(settings);
  const std::vector<ResizeAxis> axes = axes_of(call, settings);
  const at::Tensor& x = call.inputs[0];
  if (auto image = resize_image(x, axes, settings)) return *image;
  const bool whole = settings.mode != "nearest" && !at::isFloatingType(x.scalar_type());
  at::Tensor out = whole ? x.to(at::kFloat) : x;
  for (const ResizeAxis& axis : axes) out = resize_axis(out, axis, settings);
  return whole ? to_integers(out, x.scalar_type()) : out;
}

}  // namespace packlight::exec

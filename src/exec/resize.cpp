#include "graph/resize.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

// One axis that is resized. `length` is the output's size before it was made whole.
struct Axis {
  int64_t axis, in, out;
  double scale;
  double begin = 0, end = 1;  // region of interest
  double length() const { return scale * static_cast<double>(in); }
};

struct Settings {
  std::string mode, coordinates, nearest;
  bool antialias, exclude_outside;
  double cubic_a, extrapolation;
};

Settings settings_of(const graph::Node& node) {
  return {node.text("mode", "nearest"),
          node.text("coordinate_transformation_mode", "half_pixel"),
          node.text("nearest_mode", "round_prefer_floor"),
          node.integer("antialias", 0) != 0,
          node.integer("exclude_outside", 0) != 0,
          node.number("cubic_coeff_a", -0.75),
          node.number("extrapolation_value", 0)};
}

bool crops(const Settings& settings) { return settings.coordinates == "tf_crop_and_resize"; }

// Where output element y lies among the input's elements.
double coordinate(const std::string& mode, double y, const Axis& a) {
  const auto last = static_cast<double>(a.in - 1);
  const double half_pixel = (y + 0.5) / a.scale - 0.5;
  if (mode == "half_pixel") return half_pixel;
  if (mode == "asymmetric") return y / a.scale;
  if (mode == "pytorch_half_pixel") return a.out > 1 ? half_pixel : 0;
  if (mode == "tf_half_pixel_for_nn") return (y + 0.5) / a.scale;
  // Not the whole number of elements: ONNX's own cases divide by the fractional length.
  if (mode == "align_corners") return a.length() == 1 ? 0 : y * last / (a.length() - 1);
  if (mode == "half_pixel_symmetric") {
    const double centre = static_cast<double>(a.in) / 2;
    return centre * (1 - static_cast<double>(a.out) / a.length()) + half_pixel;
  }
  if (mode == "tf_crop_and_resize") {
    if (a.out <= 1) return 0.5 * (a.begin + a.end) * last;
    return a.begin * last + y * (a.end - a.begin) * last / static_cast<double>(a.out - 1);
  }
  fail(ErrorCode::kInvalidArgument, "coordinate_transformation_mode '{}'", mode);
}

std::vector<double> coordinates(const Axis& axis, const Settings& settings) {
  std::vector<double> x;
  for (int64_t y = 0; y < axis.out; ++y)
    x.push_back(coordinate(settings.coordinates, static_cast<double>(y), axis));
  return x;
}

int64_t clamped(double index, int64_t size) {
  return static_cast<int64_t>(std::clamp(index, 0.0, static_cast<double>(size - 1)));
}

std::vector<int64_t> nearest_indices(const std::vector<double>& x, const Axis& axis,
                                     const std::string& mode) {
  std::vector<int64_t> indices;
  for (const double at : x) {
    double index = 0;
    if (mode == "round_prefer_floor") {
      index = std::ceil(at - 0.5);
    } else if (mode == "round_prefer_ceil") {
      index = std::floor(at + 0.5);
    } else if (mode == "floor") {
      index = std::floor(at);
    } else if (mode == "ceil") {
      index = std::ceil(at);
    } else {
      fail(ErrorCode::kInvalidArgument, "nearest_mode '{}'", mode);
    }
    indices.push_back(clamped(index, axis.in));
  }
  return indices;
}

double filter(const Settings& settings, double distance) {
  const double x = std::abs(distance), a = settings.cubic_a;
  if (settings.mode == "linear") return std::max(0.0, 1 - x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// Output element y is the sum of its taps' elements by their weights: [out, count] each.
struct Taps {
  int64_t count;
  at::Tensor indices, weights;
};

Taps taps_of(const std::vector<double>& x, const Axis& axis, const Settings& settings) {
  // With antialias the filter is as wide as what becomes one element.
  const double stretch = settings.antialias ? std::min(axis.scale, 1.0) : 1;
  const double radius = settings.mode == "linear" ? 1 : 2;
  const auto first = static_cast<int64_t>(std::floor(-radius / stretch)) + 1;
  Taps taps{2 - 2 * first, {}, {}};
  taps.indices = at::empty({axis.out, taps.count}, at::kLong);
  taps.weights = at::zeros({axis.out, taps.count}, at::kDouble);
  for (int64_t y = 0; y < axis.out; ++y) {
    int64_t* indices = taps.indices.data_ptr<int64_t>() + y * taps.count;
    double* weights = taps.weights.data_ptr<double>() + y * taps.count;
    const double base = std::floor(x[y]);
    double sum = 0;
    for (int64_t k = 0; k < taps.count; ++k) {
      const double index = base + static_cast<double>(first + k);
      const bool outside = index < 0 || index >= static_cast<double>(axis.in);
      indices[k] = clamped(index, axis.in);
      weights[k] =
          settings.exclude_outside && outside ? 0 : filter(settings, (index - x[y]) * stretch);
      sum += weights[k];
    }
    const bool normalise = (settings.exclude_outside || settings.antialias) && sum != 0;
    for (int64_t k = 0; normalise && k < taps.count; ++k) weights[k] /= sum;
  }
  return taps;
}

// A vector along `axis` of a tensor of that rank.
at::Tensor along(const at::Tensor& vector, int64_t axis, int64_t rank) {
  std::vector<int64_t> shape(rank, 1);
  shape[axis] = vector.numel();
  return vector.contiguous().view(shape);
}

at::Tensor interpolate(const at::Tensor& x, const Axis& axis, const Taps& taps) {
  const at::Tensor weights = taps.weights.to(x.scalar_type());
  constexpr int64_t kFew = 4;  // linear and cubic; an antialiased filter is a matrix product
  if (taps.count > kFew) {
    const at::Tensor matrix =
        at::zeros({axis.out, axis.in}, weights.options()).scatter_add(1, taps.indices, weights);
    return at::matmul(x.transpose(axis.axis, -1), matrix.t()).transpose(axis.axis, -1);
  }
  at::Tensor sum;
  for (int64_t k = 0; k < taps.count; ++k) {
    const at::Tensor term = at::index_select(x, axis.axis, taps.indices.select(1, k).contiguous()) *
                            along(weights.select(1, k), axis.axis, x.dim());
    sum = sum.defined() ? sum + term : term;
  }
  return sum;
}

at::Tensor resize_axis(const at::Tensor& input, const Axis& axis, const Settings& settings) {
  const std::vector<double> x = coordinates(axis, settings);
  at::Tensor out;
  if (settings.mode == "nearest") {
    const std::vector<int64_t> indices = nearest_indices(x, axis, settings.nearest);
    out = at::index_select(input, axis.axis, at::tensor(indices, at::kLong));
  } else {
    out = interpolate(input, axis, taps_of(x, axis, settings));
  }
  if (!crops(settings)) return out;
  at::Tensor outside = at::zeros({axis.out}, at::kBool);
  for (int64_t y = 0; y < axis.out; ++y)
    outside.data_ptr<bool>()[y] = x[y] < 0 || x[y] > static_cast<double>(axis.in - 1);
  return out.masked_fill(along(outside, axis.axis, out.dim()), settings.extrapolation);
}

// Whether LibTorch, which computes in F32, takes the same elements.
bool same_nearest(const Axis& axis, const Settings& settings) {
  const auto want = nearest_indices(coordinates(axis, settings), axis, settings.nearest);
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

bool same_linear(const Axis& axis, const Settings& settings, bool align) {
  constexpr double kClose = 0x1p-20;  // of an element's distance: what F32 leaves of a weight
  const std::vector<double> want = coordinates(axis, settings);
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
std::optional<at::Tensor> resize_image(const at::Tensor& x, const std::vector<Axis>& axes,
                                       const Settings& settings) {
  if (x.dim() != 4 || x.scalar_type() != at::kFloat || crops(settings) || axes.size() != 2 ||
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

void check_length(const char* name, size_t length, size_t wanted) {
  if (length != wanted)
    fail(ErrorCode::kInvalidArgument, "{} has {} entries, not {}", name, length, wanted);
}

void set_sizes(std::vector<Axis>& axes, const std::vector<int64_t>& sizes,
               const std::string& policy) {
  check_length("sizes", sizes.size(), axes.size());
  std::vector<std::pair<int64_t, int64_t>> wanted;
  for (size_t i = 0; i < axes.size(); ++i) wanted.emplace_back(sizes[i], axes[i].in);
  const bool keeps = policy == "not_larger" || policy == "not_smaller";
  if (!keeps && policy != "stretch")
    fail(ErrorCode::kInvalidArgument, "keep_aspect_ratio_policy '{}'", policy);
  const double common = graph::kept_aspect_scale(wanted, policy == "not_larger");
  for (size_t i = 0; i < axes.size(); ++i) {
    if (sizes[i] < 0) fail(ErrorCode::kInvalidArgument, "size {} is negative", sizes[i]);
    axes[i].out = keeps ? graph::kept_aspect_size(common, axes[i].in) : sizes[i];
    axes[i].scale =
        keeps ? common : static_cast<double>(sizes[i]) / static_cast<double>(axes[i].in);
  }
}

void set_scales(std::vector<Axis>& axes, const std::vector<double>& scales, bool crop) {
  check_length("scales", scales.size(), axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    const double part = crop ? axes[i].end - axes[i].begin : 1;
    const auto size = graph::scaled_size(axes[i].in, part, scales[i]);
    if (!size) fail(ErrorCode::kInvalidArgument, "{} by {} has no size", axes[i].in, scales[i]);
    axes[i].out = *size;
    axes[i].scale = scales[i];
  }
}

// The axes that change, in order.
std::vector<Axis> axes_of(const Call& call, const Settings& settings) {
  const at::Tensor& x = call.inputs[0];
  std::vector<int64_t> chosen = call.node.integers("axes");
  if (chosen.empty()) {
    chosen.resize(x.dim());
    std::iota(chosen.begin(), chosen.end(), 0);
  }
  const auto given = [&](size_t i) { return call.has(i) && call.inputs[i].numel() > 0; };
  if (given(2) == given(3))
    fail(ErrorCode::kInvalidArgument, "one of scales and sizes must be given");
  const std::vector<double> roi = given(1) ? numbers(call.inputs[1]) : std::vector<double>{};
  if (crops(settings)) check_length("roi", roi.size(), 2 * chosen.size());
  std::vector<Axis> axes;
  for (size_t i = 0; i < chosen.size(); ++i) {
    const int64_t axis = normalised_axis(chosen[i], x.dim());
    Axis one{axis, x.size(axis), 0, 1};
    if (one.in == 0) fail(ErrorCode::kInvalidArgument, "axis {} is empty", axis);
    if (crops(settings)) {
      one.begin = roi[i];
      one.end = roi[chosen.size() + i];
    }
    axes.push_back(one);
  }
  if (given(3)) {
    set_sizes(axes, integers(call.inputs[3]),
              call.node.text("keep_aspect_ratio_policy", "stretch"));
  } else {
    set_scales(axes, numbers(call.inputs[2]), crops(settings));
  }
  std::erase_if(axes, [](const Axis& axis) {
    return axis.scale == 1 && axis.in == axis.out && axis.begin == 0 && axis.end == 1;
  });
  std::sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.axis < b.axis; });
  return axes;
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
  const Settings settings = settings_of(call.node);
  if (settings.mode != "nearest" && settings.mode != "linear" && settings.mode != "cubic")
    fail(ErrorCode::kInvalidArgument, "mode '{}'", settings.mode);
  const std::vector<Axis> axes = axes_of(call, settings);
  const at::Tensor& x = call.inputs[0];
  if (auto image = resize_image(x, axes, settings)) return *image;
  const bool whole = settings.mode != "nearest" && !at::isFloatingType(x.scalar_type());
  at::Tensor out = whole ? x.to(at::kFloat) : x;
  for (const Axis& axis : axes) out = resize_axis(out, axis, settings);
  return whole ? to_integers(out, x.scalar_type()) : out;
}

}  // namespace packlight::exec

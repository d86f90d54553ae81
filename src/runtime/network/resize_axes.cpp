#include "runtime/network/resize_axes.h"

#include <algorithm>
#include <cmath>

#include "runtime/network/operands.h"

namespace packlight::runtime {
namespace {

constexpr double kMostElements = 0x1p40;

template <size_t N>
void check_name(const OperatorCall& call, const char* attribute, const std::string& name,
                const std::string_view (&known)[N]) {
  if (std::find(std::begin(known), std::end(known), name) == std::end(known))
    call.refuse("{} '{}'", attribute, name);
}

void check_length(const OperatorCall& call, const char* name, size_t length, size_t wanted) {
  if (length != wanted) call.refuse("{} has {} entries, not {}", name, length, wanted);
}

// The one scale of all axes that keeps the aspect ratio: no axis larger (or smaller) than wanted.
double common_scale(const std::vector<ResizeAxis>& axes, const std::vector<double>& sizes,
                    bool not_larger) {
  double scale = not_larger ? INFINITY : 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    const double one = sizes[i] / static_cast<double>(axes[i].in);
    scale = not_larger ? std::min(scale, one) : std::max(scale, one);
  }
  return scale;
}

void set_sizes(const OperatorCall& call, std::vector<ResizeAxis>& axes,
               const std::vector<double>& sizes) {
  check_length(call, "sizes", sizes.size(), axes.size());
  const std::string policy = call.node.text("keep_aspect_ratio_policy", "stretch");
  check_name(call, "keep_aspect_ratio_policy", policy, {"stretch", "not_larger", "not_smaller"});
  for (const double size : sizes) {
    if (!(size >= 0 && size <= kMostElements)) call.refuse("size {}", size);
  }
  const bool keeps = policy != "stretch";
  const double common = keeps ? common_scale(axes, sizes, policy == "not_larger") : 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto in = static_cast<double>(axes[i].in);
    const double out = keeps ? std::floor(common * in + 0.5) : sizes[i];  // halves go up
    if (!(out <= kMostElements)) call.refuse("axis of {} elements becomes one of {}", in, out);
    axes[i].out = static_cast<int64_t>(out);
    axes[i].scale = keeps ? common : sizes[i] / in;
  }
}

// Sizes in F32 like other engines (10 * 0.7 is 7).
void set_scales(const OperatorCall& call, std::vector<ResizeAxis>& axes,
                const std::vector<double>& scales) {
  check_length(call, "scales", scales.size(), axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto part =
        static_cast<float>(axes[i].end - axes[i].begin);  // 1 where nothing is cropped
    const float size =
        std::floor(static_cast<float>(axes[i].in) * part * static_cast<float>(scales[i]));
    if (!(scales[i] > 0) || !(size >= 0) || size > kMostElements)
      call.refuse("{} by {} has no size", axes[i].in, scales[i]);
    axes[i].out = static_cast<int64_t>(size);
    axes[i].scale = scales[i];
  }
}

// The axes in the order that roi, scales and sizes have, with their regions.
std::vector<ResizeAxis> chosen_axes(const OperatorCall& call, const std::vector<double>& roi,
                                    bool crops) {
  const Tensor& x = call.input(0);
  std::vector<int64_t> chosen = distinct_axes(call, call.node.integers("axes"), x.rank());
  if (chosen.empty()) chosen = all_axes(x.rank());
  if (crops) check_length(call, "roi", roi.size(), 2 * chosen.size());
  std::vector<ResizeAxis> axes;
  for (size_t i = 0; i < chosen.size(); ++i) {
    ResizeAxis one{chosen[i], x.dims[chosen[i]], 0, 1};
    if (one.in == 0) call.refuse("axis {} is empty", one.axis);
    if (crops) {
      one.begin = roi[i];
      one.end = roi[chosen.size() + i];
      if (!std::isfinite(one.begin) || !std::isfinite(one.end))
        call.refuse("the region of axis {} is from {} to {}", one.axis, one.begin, one.end);
    }
    axes.push_back(one);
  }
  return axes;
}

double coordinate(const std::string& mode, double y, const ResizeAxis& a) {
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
  // tf_crop_and_resize
  if (a.out <= 1) return 0.5 * (a.begin + a.end) * last;
  return a.begin * last + y * (a.end - a.begin) * last / static_cast<double>(a.out - 1);
}

int64_t clamped(double index, int64_t size) {
  return static_cast<int64_t>(std::clamp(index, 0.0, static_cast<double>(size - 1)));
}

double filter(const ResizeSettings& settings, double distance) {
  const double x = std::abs(distance), a = settings.cubic_a;
  if (settings.mode == "linear") return std::max(0.0, 1 - x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

}  // namespace

ResizeSettings resize_settings(const OperatorCall& call) {
  ResizeSettings settings{call.node.text("mode", "nearest"),
                          call.node.text("coordinate_transformation_mode", "half_pixel"),
                          call.node.text("nearest_mode", "round_prefer_floor"),
                          call.node.integer("antialias", 0) != 0,
                          call.node.integer("exclude_outside", 0) != 0,
                          call.node.number("cubic_coeff_a", -0.75),
                          call.node.number("extrapolation_value", 0)};
  check_name(call, "mode", settings.mode, {"nearest", "linear", "cubic"});
  check_name(call, "nearest_mode", settings.nearest,
             {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"});
  check_name(call, "coordinate_transformation_mode", settings.coordinates,
             {"half_pixel", "asymmetric", "pytorch_half_pixel", "tf_half_pixel_for_nn",
              "align_corners", "half_pixel_symmetric", "tf_crop_and_resize"});
  return settings;
}

std::optional<std::vector<ResizeAxis>> resized_axes(const OperatorCall& call,
                                                    const ResizeSettings& settings) {
  // An empty one counts as absent.
  const auto given = [&](size_t i) { return call.has(i) && call.input(i).elements() > 0; };
  if (given(2) == given(3)) call.refuse("one of scales and sizes must be given");
  const auto targets = numbers_in(call, given(3) ? 3 : 2);
  auto roi = settings.crops() && given(1) ? numbers_in(call, 1) : std::vector<double>{};
  if (!targets || !roi) return std::nullopt;
  std::vector<ResizeAxis> axes = chosen_axes(call, *roi, settings.crops());
  if (given(3))
    set_sizes(call, axes, *targets);
  else
    set_scales(call, axes, *targets);
  std::erase_if(axes, [](const ResizeAxis& axis) {
    return axis.scale == 1 && axis.in == axis.out && axis.begin == 0 && axis.end == 1;
  });
  std::sort(axes.begin(), axes.end(),
            [](const ResizeAxis& a, const ResizeAxis& b) { return a.axis < b.axis; });
  return axes;
}

std::vector<double> resize_coordinates(const OperatorCall& call, const ResizeAxis& axis,
                                       const ResizeSettings& settings) {
  std::vector<double> x;
  for (int64_t y = 0; y < axis.out; ++y) {
    x.push_back(coordinate(settings.coordinates, static_cast<double>(y), axis));
    if (!std::isfinite(x.back())) call.refuse("scale {} of axis {}", axis.scale, axis.axis);
  }
  return x;
}

std::vector<int64_t> nearest_elements(const std::vector<double>& x, const ResizeAxis& axis,
                                      const ResizeSettings& settings) {
  std::vector<int64_t> indices;
  for (const double at : x) {
    const double index = settings.nearest == "round_prefer_floor"  ? std::ceil(at - 0.5)
                         : settings.nearest == "round_prefer_ceil" ? std::floor(at + 0.5)
                         : settings.nearest == "floor"             ? std::floor(at)
                                                                   : std::ceil(at);
    indices.push_back(clamped(index, axis.in));
  }
  return indices;
}

ResizeTaps resize_taps(const OperatorCall& call, const std::vector<double>& x,
                       const ResizeAxis& axis, const ResizeSettings& settings) {
  // With antialias the filter is as wide as what becomes one element.
  const double stretch = settings.antialias ? std::min(axis.scale, 1.0) : 1;
  const double radius = settings.mode == "linear" ? 1 : 2;
  const double first = std::floor(-radius / stretch) + 1, count = 2 - 2 * first;
  constexpr double kMostTaps = 0x1p30;
  if (!(count * static_cast<double>(axis.out) <= kMostTaps))
    call.refuse("a filter of {} elements for each of {}", count, axis.out);
  ResizeTaps taps{static_cast<int64_t>(count), {}, {}};
  std::vector<double> weights(taps.count);
  for (int64_t y = 0; y < axis.out; ++y) {
    const double base = std::floor(x[y]);
    double sum = 0;
    for (int64_t k = 0; k < taps.count; ++k) {
      const double index = base + first + static_cast<double>(k);
      const bool outside = index < 0 || index >= static_cast<double>(axis.in);
      taps.indices.push_back(clamped(index, axis.in));
      weights[k] =
          settings.exclude_outside && outside ? 0 : filter(settings, (index - x[y]) * stretch);
      sum += weights[k];
    }
    const bool normalise = (settings.exclude_outside || settings.antialias) && sum != 0;
    for (const double weight : weights)
      taps.weights.push_back(static_cast<float>(normalise ? weight / sum : weight));
  }
  return taps;
}

}  // namespace packlight::runtime

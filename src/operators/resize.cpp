#include "operators/resize.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

#include "base/fail.h"

namespace packlight::operators {
namespace {

constexpr double kMostElements = 0x1p40;

template <size_t N>
void check_name(const char* attribute, const std::string& name,
                const std::string_view (&known)[N]) {
  if (std::find(std::begin(known), std::end(known), name) == std::end(known))
    fail(ErrorCode::kInvalidArgument, "{} '{}'", attribute, name);
}

void check_length(const char* name, size_t length, size_t wanted) {
  if (length != wanted)
    fail(ErrorCode::kInvalidArgument, "{} has {} entries, not {}", name, length, wanted);
}

void set_sizes(std::vector<ResizeAxis>& axes, std::span<const int64_t> sizes,
               const std::string& policy) {
  check_length("sizes", sizes.size(), axes.size());
  std::vector<std::pair<int64_t, int64_t>> wanted;
  for (size_t i = 0; i < axes.size(); ++i) {
    if (sizes[i] < 0 || static_cast<double>(sizes[i]) > kMostElements)
      fail(ErrorCode::kInvalidArgument, "size {}", sizes[i]);
    wanted.emplace_back(sizes[i], axes[i].in);
  }
  const bool keeps = policy != "stretch";
  const double common = kept_aspect_scale(wanted, policy == "not_larger");
  for (size_t i = 0; i < axes.size(); ++i) {
    axes[i].out = keeps ? kept_aspect_size(common, axes[i].in) : sizes[i];
    axes[i].scale =
        keeps ? common : static_cast<double>(sizes[i]) / static_cast<double>(axes[i].in);
  }
}

void set_scales(std::vector<ResizeAxis>& axes, std::span<const double> scales) {
  check_length("scales", scales.size(), axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto size = scaled_size(axes[i].in, axes[i].end - axes[i].begin, scales[i]);
    if (!size) fail(ErrorCode::kInvalidArgument, "{} by {} has no size", axes[i].in, scales[i]);
    axes[i].out = *size;
    axes[i].scale = scales[i];
  }
}

// Counted from the front, each once; all when none are given.
std::vector<int64_t> chosen_axes(std::vector<int64_t> axes, int64_t rank) {
  if (axes.empty()) {
    axes.resize(rank);
    std::iota(axes.begin(), axes.end(), 0);
    return axes;
  }
  std::vector<bool> seen(rank, false);
  for (int64_t& axis : axes) {
    if (axis < -rank || axis >= rank)
      fail(ErrorCode::kInvalidArgument, "axis {} is outside a tensor of rank {}", axis, rank);
    if (axis < 0) axis += rank;
    if (seen[axis]) fail(ErrorCode::kInvalidArgument, "axis {} is given twice", axis);
    seen[axis] = true;
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

std::optional<int64_t> scaled_size(int64_t size, double part, double scale) {
  const float product =
      std::floor(static_cast<float>(size) * static_cast<float>(part) * static_cast<float>(scale));
  if (!(scale > 0) || !(product >= 0) || product > kMostElements) return std::nullopt;
  return static_cast<int64_t>(product);
}

double kept_aspect_scale(std::span<const std::pair<int64_t, int64_t>> sizes, bool not_larger) {
  double scale = not_larger ? INFINITY : 0;
  for (const auto& [wanted, present] : sizes) {
    const double one = static_cast<double>(wanted) / static_cast<double>(present);
    scale = not_larger ? std::min(scale, one) : std::max(scale, one);
  }
  return scale;
}

int64_t kept_aspect_size(double scale, int64_t size) {
  const double out = std::floor(scale * static_cast<double>(size) + 0.5);
  if (!(out <= kMostElements))
    fail(ErrorCode::kInvalidArgument, "axis of {} elements becomes one of {}", size, out);
  return static_cast<int64_t>(out);
}

void check_settings(const ResizeSettings& settings) {
  check_name("mode", settings.mode, {"nearest", "linear", "cubic"});
  check_name("nearest_mode", settings.nearest,
             {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"});
  check_name("coordinate_transformation_mode", settings.coordinates,
             {"half_pixel", "asymmetric", "pytorch_half_pixel", "tf_half_pixel_for_nn",
              "align_corners", "half_pixel_symmetric", "tf_crop_and_resize"});
  check_name("keep_aspect_ratio_policy", settings.keep_aspect,
             {"stretch", "not_larger", "not_smaller"});
}

std::vector<ResizeAxis> resized_axes(const ResizeSettings& settings, std::span<const int64_t> dims,
                                     std::span<const double> roi, std::span<const double> scales,
                                     std::span<const int64_t> sizes) {
  if (scales.empty() == sizes.empty())
    fail(ErrorCode::kInvalidArgument, "one of scales and sizes must be given");
  const std::vector<int64_t> chosen = chosen_axes(settings.axes, static_cast<int64_t>(dims.size()));
  if (settings.crops()) check_length("roi", roi.size(), 2 * chosen.size());
  std::vector<ResizeAxis> axes;
  for (size_t i = 0; i < chosen.size(); ++i) {
    ResizeAxis one{chosen[i], dims[chosen[i]], 0, 1};
    if (one.in == 0) fail(ErrorCode::kInvalidArgument, "axis {} is empty", one.axis);
    if (settings.crops()) {
      one.begin = roi[i];
      one.end = roi[chosen.size() + i];
      if (!std::isfinite(one.begin) || !std::isfinite(one.end))
        fail(ErrorCode::kInvalidArgument, "the region of axis {} is from {} to {}", one.axis,
             one.begin, one.end);
    }
    axes.push_back(one);
  }
  if (scales.empty())
    set_sizes(axes, sizes, settings.keep_aspect);
  else
    set_scales(axes, scales);
  std::erase_if(axes, [](const ResizeAxis& axis) {
    return axis.scale == 1 && axis.in == axis.out && axis.begin == 0 && axis.end == 1;
  });
  std::sort(axes.begin(), axes.end(),
            [](const ResizeAxis& a, const ResizeAxis& b) { return a.axis < b.axis; });
  return axes;
}

std::vector<double> resize_coordinates(const ResizeAxis& axis, const ResizeSettings& settings) {
  std::vector<double> x;
  for (int64_t y = 0; y < axis.out; ++y) {
    x.push_back(coordinate(settings.coordinates, static_cast<double>(y), axis));
    if (!std::isfinite(x.back()))
      fail(ErrorCode::kInvalidArgument, "scale {} of axis {}", axis.scale, axis.axis);
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

ResizeTaps resize_taps(const std::vector<double>& x, const ResizeAxis& axis,
                       const ResizeSettings& settings) {
  // With antialias the filter is as wide as what becomes one element.
  const double stretch = settings.antialias ? std::min(axis.scale, 1.0) : 1;
  const double radius = settings.mode == "linear" ? 1 : 2;
  const double first = std::floor(-radius / stretch) + 1, count = 2 - 2 * first;
  constexpr double kMostTaps = 0x1p26;
  if (!(count * static_cast<double>(axis.out) <= kMostTaps))
    fail(ErrorCode::kInvalidArgument, "a filter of {} elements for each of {}", count, axis.out);
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
    for (const double weight : weights) taps.weights.push_back(normalise ? weight / sum : weight);
  }
  return taps;
}

}  // namespace packlight::operators

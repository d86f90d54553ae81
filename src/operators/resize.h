#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

// What Resize does to each axis, before any element is touched.
namespace packlight::operators {

// floor(size * part * scale), in F32 like other engines (10 * 0.7 is 7); nothing where the scale is
// not positive or the result no size. `part` is what the region of interest leaves of the axis.
std::optional<int64_t> scaled_size(int64_t size, double part, double scale);

// The one scale of all axes that keeps the aspect ratio: no axis larger (or smaller) than wanted.
// Sizes [wanted, present] an axis, present > 0.
double kept_aspect_scale(std::span<const std::pair<int64_t, int64_t>> sizes, bool not_larger);
// Halves go up. Errors: InvalidArgument beyond 2^40.
int64_t kept_aspect_size(double scale, int64_t size);

struct ResizeSettings {
  std::string mode, coordinates, nearest, keep_aspect;
  bool antialias = false, exclude_outside = false;
  double cubic_a = 0, extrapolation = 0;
  std::vector<int64_t> axes;  // as given; all when empty
  bool crops() const { return coordinates == "tf_crop_and_resize"; }
};
template <class Node>
ResizeSettings resize_settings(const Node& node) {
  return {node.text("mode", "nearest"),
          node.text("coordinate_transformation_mode", "half_pixel"),
          node.text("nearest_mode", "round_prefer_floor"),
          node.text("keep_aspect_ratio_policy", "stretch"),
          node.integer("antialias", 0) != 0,
          node.integer("exclude_outside", 0) != 0,
          node.number("cubic_coeff_a", -0.75),
          node.number("extrapolation_value", 0),
          node.integers("axes")};
}
// Errors: InvalidArgument for a name that there is not.
void check_settings(const ResizeSettings& settings);

// One axis that is resized. `length` is the output's size before it was made whole.
struct ResizeAxis {
  int64_t axis, in, out;
  double scale;
  double begin = 0, end = 1;  // region of interest
  double length() const { return scale * static_cast<double>(in); }
};

// The axes of a tensor of these dimensions that change, in order. roi counts where the settings
// crop; of scales and sizes one is empty. Errors: InvalidArgument for wrong lengths, axes outside
// or twice, empty axes, sizes that are none.
std::vector<ResizeAxis> resized_axes(const ResizeSettings& settings, std::span<const int64_t> dims,
                                     std::span<const double> roi, std::span<const double> scales,
                                     std::span<const int64_t> sizes);

// Where each output element lies among the input's elements. Errors: InvalidArgument where that is
// no number.
std::vector<double> resize_coordinates(const ResizeAxis& axis, const ResizeSettings& settings);

std::vector<int64_t> nearest_elements(const std::vector<double>& x, const ResizeAxis& axis,
                                      const ResizeSettings& settings);

// Output element y is the sum of its taps' elements by their weights: [out, count] each; count
// >= 2.
struct ResizeTaps {
  int64_t count = 0;
  std::vector<int64_t> indices;
  std::vector<double> weights;
};
// Errors: InvalidArgument for a filter that is too wide.
ResizeTaps resize_taps(const std::vector<double>& x, const ResizeAxis& axis,
                       const ResizeSettings& settings);

}  // namespace packlight::operators

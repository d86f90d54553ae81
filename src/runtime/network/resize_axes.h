#pragma once

#include <string>
#include <vector>

#include "runtime/network/operator.h"

// What Resize does to each axis, before any element is touched.
namespace packlight::runtime {

struct ResizeSettings {
  std::string mode, coordinates, nearest;
  bool antialias, exclude_outside;
  double cubic_a, extrapolation;
  bool crops() const { return coordinates == "tf_crop_and_resize"; }
};

// Errors: InvalidArgument for a mode that there is not.
ResizeSettings resize_settings(const OperatorCall& call);

// One axis that is resized. `length` is the output's size before it was made whole.
struct ResizeAxis {
  int64_t axis, in, out;
  double scale;
  double begin = 0, end = 1;  // region of interest
  double length() const { return scale * static_cast<double>(in); }
};

// X, roi, scales, sizes -> the axes that change, in order; nothing while one of these inputs is not
// computed yet.
std::optional<std::vector<ResizeAxis>> resized_axes(const OperatorCall& call,
                                                    const ResizeSettings& settings);

// Where each output element lies among the input's elements.
std::vector<double> resize_coordinates(const OperatorCall& call, const ResizeAxis& axis,
                                       const ResizeSettings& settings);

std::vector<int64_t> nearest_elements(const std::vector<double>& x, const ResizeAxis& axis,
                                      const ResizeSettings& settings);

// Output element y is the sum of its taps' elements by their weights: [out, count] each.
struct ResizeTaps {
  int64_t count = 0;
  std::vector<int64_t> indices;
  std::vector<float> weights;
};
ResizeTaps resize_taps(const OperatorCall& call, const std::vector<double>& x,
                       const ResizeAxis& axis, const ResizeSettings& settings);

}  // namespace packlight::runtime

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/fail.h"
#include "base/interrupt.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

struct Box {
  float left, right, top, bottom;
  float area() const { return (right - left) * (bottom - top); }
};

Box box_of(const float* values, bool center_point_box) {
  const float a = values[0], b = values[1], c = values[2], d = values[3];
  if (center_point_box) return {a - c / 2, a + c / 2, b - d / 2, b + d / 2};
  return {std::min(b, d), std::max(b, d), std::min(a, c), std::max(a, c)};
}

// Intersection over union; 0 for boxes without area.
float overlap(const Box& a, const Box& b) {
  const float width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const float height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  if (!(width > 0 && height > 0) || a.area() <= 0 || b.area() <= 0) return 0;
  const float shared = width * height, all = a.area() + b.area() - shared;
  return shared > 0 && all > 0 ? shared / all : 0;
}

// The boxes that take part, best first. A score that is no number is worse than any.
std::vector<int64_t> candidates(const float* scores, int64_t count, const SuppressionSpec& spec) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < count; ++i) {
    if (!spec.score_threshold || scores[i] > *spec.score_threshold) order.push_back(i);
  }
  const auto key = [scores](int64_t i) { return std::isnan(scores[i]) ? -INFINITY : scores[i]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return key(a) > key(b); });
  return order;
}

void suppress_class(const std::vector<Box>& boxes, const float* scores, const SuppressionSpec& spec,
                    std::vector<int64_t>& kept) {
  for (const int64_t box : candidates(scores, static_cast<int64_t>(boxes.size()), spec)) {
    if (static_cast<int64_t>(kept.size()) >= spec.max_boxes) return;
    const bool drops = std::any_of(kept.begin(), kept.end(), [&](int64_t better) {
      return overlap(boxes[better], boxes[box]) > spec.iou_threshold;
    });
    if (!drops) kept.push_back(box);
  }
}

}  // namespace

at::Tensor non_max_suppression(const at::Tensor& boxes, const at::Tensor& scores,
                               const SuppressionSpec& spec) {
  if (boxes.dim() != 3 || scores.dim() != 3 || boxes.size(2) != 4 ||
      scores.size(0) != boxes.size(0) || scores.size(2) != boxes.size(1)) {
    fail(ErrorCode::kInvalidArgument,
         "boxes and scores are not [batch, n, 4] and [batch, classes, n]");
  }
  if (!(spec.iou_threshold >= 0 && spec.iou_threshold <= 1))
    fail(ErrorCode::kInvalidArgument, "iou_threshold {} is outside [0, 1]", spec.iou_threshold);
  const at::Tensor corners = boxes.detach().to(at::kFloat).contiguous(),
                   marks = scores.detach().to(at::kFloat).contiguous();
  const int64_t count = boxes.size(1), classes = scores.size(1);
  std::vector<int64_t> out;
  for (int64_t batch = 0; batch < boxes.size(0); ++batch) {
    std::vector<Box> all;
    for (int64_t i = 0; i < count; ++i) {
      all.push_back(
          box_of(corners.data_ptr<float>() + (batch * count + i) * 4, spec.center_point_box));
    }
    for (int64_t c = 0; c < classes; ++c) {
      base::check_interrupt();
      std::vector<int64_t> kept;
      suppress_class(all, marks.data_ptr<float>() + (batch * classes + c) * count, spec, kept);
      for (const int64_t box : kept) out.insert(out.end(), {batch, c, box});
    }
  }
  return at::tensor(out, at::kLong).reshape({static_cast<int64_t>(out.size()) / 3, 3});
}

}  // namespace packlight::exec

#include "operators/suppression.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "base/interrupt.h"

namespace packlight::operators {
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

std::vector<int64_t> kept_boxes(const std::vector<Box>& boxes, const float* scores,
                                const SuppressionSpec& spec) {
  std::vector<int64_t> kept;
  for (const int64_t box : candidates(scores, static_cast<int64_t>(boxes.size()), spec)) {
    if (static_cast<int64_t>(kept.size()) >= spec.max_boxes) break;
    const bool drops = std::any_of(kept.begin(), kept.end(), [&](int64_t better) {
      return overlap(boxes[better], boxes[box]) > spec.iou_threshold;
    });
    if (!drops) kept.push_back(box);
  }
  return kept;
}

}  // namespace

std::vector<int64_t> suppressed(const float* boxes, const float* scores,
                                const SuppressionSizes& sizes, const SuppressionSpec& spec) {
  if (!(spec.iou_threshold >= 0 && spec.iou_threshold <= 1))
    fail(ErrorCode::kInvalidArgument, "iou_threshold {} is outside [0, 1]", spec.iou_threshold);
  std::vector<int64_t> rows;
  if (sizes.boxes == 0) return rows;
  for (int64_t batch = 0; batch < sizes.batch; ++batch) {
    std::vector<Box> all;
    for (int64_t i = 0; i < sizes.boxes; ++i)
      all.push_back(box_of(boxes + (batch * sizes.boxes + i) * 4, spec.center_point_box));
    for (int64_t c = 0; c < sizes.classes; ++c) {
      base::check_interrupt();
      const float* marks = scores + (batch * sizes.classes + c) * sizes.boxes;
      for (const int64_t box : kept_boxes(all, marks, spec))
        rows.insert(rows.end(), {batch, c, box});
    }
  }
  return rows;
}

}  // namespace packlight::operators

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace packlight::operators {

// ONNX NonMaxSuppression.
struct SuppressionSpec {
  bool center_point_box = false;  // [x_center, y_center, width, height], else two corners (y, x)
  int64_t max_boxes = 0;          // per class
  float iou_threshold = 0;        // a box that overlaps a better one by more is dropped
  std::optional<float> score_threshold;  // only scores above it take part
};
struct SuppressionSizes {
  int64_t batch = 0, classes = 0, boxes = 0;
};

// boxes: [batch, n, 4] F32, scores: [batch, classes, n] F32; returns rows of batch, class and box
// of what is kept, by descending score within a class, equal scores by ascending index. Cost: n *
// kept a class. Errors: InvalidArgument for an iou_threshold outside [0, 1].
std::vector<int64_t> suppressed(const float* boxes, const float* scores,
                                const SuppressionSizes& sizes, const SuppressionSpec& spec);

}  // namespace packlight::operators

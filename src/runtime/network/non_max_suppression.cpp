#include "runtime/network/non_max_suppression.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/interrupt.h"
#include "runtime/network/operands.h"

namespace packlight::runtime {
namespace {

struct Spec {
  bool center_point_box = false;
  int64_t max_boxes = 0;  // of a class
  float iou_threshold = 0;
  std::optional<float> score_threshold;
};

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
std::vector<int64_t> candidates(const float* scores, int64_t count, const Spec& spec) {
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
                                const Spec& spec) {
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

std::optional<float> threshold(const OperatorCall& call, size_t input) {
  if (!call.has(input)) return std::nullopt;
  const Tensor& tensor = dense(call, input);
  if (tensor.dtype != codec::DType::kF32 || tensor.elements() != 1)
    call.refuse("input {} is no single number of F32", input);
  return *tensor.as<float>();
}

Spec spec_of(const OperatorCall& call) {
  Spec spec;
  spec.center_point_box = call.node.integer("center_point_box", 0) != 0;
  if (call.has(2)) spec.max_boxes = one_integer(call, 2, "max_output_boxes_per_class");
  spec.iou_threshold = threshold(call, 3).value_or(0);
  if (!(spec.iou_threshold >= 0 && spec.iou_threshold <= 1))
    call.refuse("iou_threshold {} is outside [0, 1]", spec.iou_threshold);
  spec.score_threshold = threshold(call, 4);
  return spec;
}

void check_shapes(const OperatorCall& call) {
  const Tensor &boxes = dense(call, 0), &scores = dense(call, 1);
  for (const Tensor* tensor : {&boxes, &scores}) {
    if (tensor->dtype != codec::DType::kF32 || tensor->rank() != 3)
      call.refuse("boxes and scores are not of F32 and rank 3");
  }
  if (boxes.dims[2] != 4 || scores.dims[0] != boxes.dims[0] || scores.dims[2] != boxes.dims[1])
    call.refuse("boxes {} and scores {} are not [batch, n, 4] and [batch, classes, n]",
                to_string(boxes.dims), to_string(scores.dims));
}

// Rows of (batch, class, box).
std::vector<int64_t> suppressed(const OperatorCall& call) {
  const Spec spec = spec_of(call);
  const Tensor &boxes = call.input(0), &scores = call.input(1);
  const int64_t count = boxes.dims[1], classes = scores.dims[1];
  std::vector<int64_t> rows;
  for (int64_t batch = 0; batch < boxes.dims[0]; ++batch) {
    std::vector<Box> all;
    for (int64_t i = 0; i < count; ++i)
      all.push_back(box_of(boxes.as<float>() + (batch * count + i) * 4, spec.center_point_box));
    for (int64_t c = 0; c < classes; ++c) {
      base::check_interrupt();
      const float* marks = scores.as<float>() + (batch * classes + c) * count;
      for (const int64_t box : kept_boxes(all, marks, spec))
        rows.insert(rows.end(), {batch, c, box});
    }
  }
  return rows;
}

}  // namespace

bool non_max_suppression_shape(const ShapeCall& call) {
  check_shapes(call);
  for (size_t i = 0; i < 5; ++i) {
    if (call.has(i) && !call.input(i).has_data()) return false;
  }
  // How many there are is found by finding them: once here, once in the run.
  call.set(0, codec::DType::kI64, {static_cast<int64_t>(suppressed(call).size()) / 3, 3});
  return true;
}

void non_max_suppression(const RunCall& call) {
  const std::vector<int64_t> rows = suppressed(call);
  std::copy(rows.begin(), rows.end(), call.output(0).as<int64_t>());
}

}  // namespace packlight::runtime

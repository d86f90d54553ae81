#include "runtime/network/non_max_suppression.h"

#include <algorithm>

#include "operators/suppression.h"
#include "runtime/network/operands.h"

namespace packlight::runtime {
namespace {

std::optional<float> threshold(const OperatorCall& call, size_t input) {
  if (!call.has(input)) return std::nullopt;
  const Tensor& tensor = dense(call, input);
  if (tensor.dtype != codec::DType::kF32 || tensor.elements() != 1)
    call.refuse("input {} is no single number of F32", input);
  return *tensor.as<float>();
}

operators::SuppressionSpec spec_of(const OperatorCall& call) {
  operators::SuppressionSpec spec;
  spec.center_point_box = call.node.integer("center_point_box", 0) != 0;
  if (call.has(2)) spec.max_boxes = one_integer(call, 2, "max_output_boxes_per_class");
  spec.iou_threshold = threshold(call, 3).value_or(0);
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
  const Tensor &boxes = call.input(0), &scores = call.input(1);
  return operators::suppressed(boxes.as<float>(), scores.as<float>(),
                               {boxes.dims[0], scores.dims[1], boxes.dims[1]}, spec_of(call));
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

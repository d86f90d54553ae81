#include <ATen/ATen.h>

#include "base/fail.h"
#include "exec/operators.h"
#include "operators/suppression.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

// Indices into `size` elements, negative ones from the back -> [0, size).
at::Tensor checked_indices(const at::Tensor& indices, int64_t size) {
  at::Tensor wide = indices.to(at::kLong);
  if (wide.numel() == 0) return wide;
  const int64_t low = wide.min().item<int64_t>(), high = wide.max().item<int64_t>();
  if (low < -size || high >= size) {
    fail(ErrorCode::kInvalidArgument, "index {} is outside [{}, {})", low < -size ? low : high,
         -size, size);
  }
  return low < 0 ? at::where(wide < 0, wide + size, wide) : wide;
}

Outputs gather(const Call& call) {
  const at::Tensor &data = call.inputs[0], &indices = call.inputs[1];
  const int64_t axis = normalised_axis(call.node.integer("axis", 0), data.dim());
  const at::Tensor flat = checked_indices(indices, data.size(axis)).reshape({-1});
  std::vector<int64_t> shape(data.sizes().begin(), data.sizes().begin() + axis);
  shape.insert(shape.end(), indices.sizes().begin(), indices.sizes().end());
  shape.insert(shape.end(), data.sizes().begin() + axis + 1, data.sizes().end());
  return {at::index_select(data, axis, flat).reshape(shape)};
}

Outputs gather_elements(const Call& call) {
  const at::Tensor& data = call.inputs[0];
  const int64_t axis = normalised_axis(call.node.integer("axis", 0), data.dim());
  return {at::gather(data, axis, checked_indices(call.inputs[1], data.size(axis)))};
}

// data with updates at the indices of an axis, in their order; `reduction` as ONNX has it.
at::Tensor scattered(const at::Tensor& data, int64_t axis, const at::Tensor& indices,
                     const at::Tensor& updates, const std::string& reduction) {
  if (reduction == "none") return at::scatter(data, axis, indices, updates);
  if (reduction == "add") return at::scatter_add(data, axis, indices, updates);
  if (reduction == "mul") return at::scatter_reduce(data, axis, indices, updates, "prod");
  if (reduction == "max") return at::scatter_reduce(data, axis, indices, updates, "amax");
  if (reduction == "min") return at::scatter_reduce(data, axis, indices, updates, "amin");
  fail(ErrorCode::kInvalidArgument, "reduction is '{}', not none, add, mul, max or min", reduction);
}

Outputs scatter_elements(const Call& call) {
  const at::Tensor &data = call.inputs[0], &updates = call.inputs[2];
  const int64_t axis = normalised_axis(call.node.integer("axis", 0), data.dim());
  if (updates.sizes() != call.inputs[1].sizes())
    fail(ErrorCode::kInvalidArgument, "indices and updates differ in shape");
  return {scattered(data, axis, checked_indices(call.inputs[1], data.size(axis)), updates,
                    call.node.text("reduction", "none"))};
}

// Indices [..., k] into the dimensions `sizes` -> positions [...] in row-major order.
at::Tensor positions(const at::Tensor& indices, at::IntArrayRef sizes) {
  at::Tensor at = at::zeros(indices.sizes().slice(0, indices.dim() - 1), at::kLong);
  for (size_t i = 0; i < sizes.size(); ++i)
    at = at * sizes[i] + checked_indices(indices.select(-1, static_cast<int64_t>(i)), sizes[i]);
  return at;
}

// The dimensions, after `batch` of them, that an index of the ND operators points into.
at::IntArrayRef indexed_sizes(const at::Tensor& data, const at::Tensor& indices, int64_t batch) {
  if (batch < 0 || batch >= std::min(data.dim(), indices.dim()))
    fail(ErrorCode::kInvalidArgument, "batch_dims {} does not fit ranks {} and {}", batch,
         data.dim(), indices.dim());
  const int64_t length = indices.size(-1);
  if (length < 1 || length > data.dim() - batch) {
    fail(ErrorCode::kInvalidArgument, "indices point into {} dimensions, the data have {}", length,
         data.dim() - batch);
  }
  return data.sizes().slice(batch, length);
}

std::vector<int64_t> joined(at::IntArrayRef a, at::IntArrayRef b) {
  std::vector<int64_t> sizes = a.vec();
  sizes.insert(sizes.end(), b.begin(), b.end());
  return sizes;
}

Outputs gather_nd(const Call& call) {
  const at::Tensor &data = call.inputs[0], &indices = call.inputs[1];
  const int64_t batch = call.node.integer("batch_dims", 0);
  const at::IntArrayRef sizes = indexed_sizes(data, indices, batch);
  if (data.sizes().slice(0, batch) != indices.sizes().slice(0, batch))
    fail(ErrorCode::kInvalidArgument, "data and indices differ in batch dimensions");
  const at::IntArrayRef rest = data.sizes().slice(batch + sizes.size());
  const int64_t batches = c10::multiply_integers(data.sizes().slice(0, batch));
  const int64_t rows = c10::multiply_integers(sizes);  // of one batch
  at::Tensor at = positions(indices, sizes);
  const std::vector<int64_t> out = joined(at.sizes(), rest);
  if (batch > 0) {
    std::vector<int64_t> first(at.dim(), 1);
    std::copy_n(data.sizes().begin(), batch, first.begin());
    at = at + (at::arange(batches, at::kLong) * rows).view(first);
  }
  return {at::index_select(data.reshape(joined({batches * rows}, rest)), 0, at.reshape({-1}))
              .reshape(out)};
}

Outputs scatter_nd(const Call& call) {
  const at::Tensor &data = call.inputs[0], &indices = call.inputs[1], &updates = call.inputs[2];
  const at::IntArrayRef sizes = indexed_sizes(data, indices, 0);
  const at::IntArrayRef rest = data.sizes().slice(sizes.size());
  const at::Tensor at = positions(indices, sizes);
  if (updates.sizes() != at::IntArrayRef(joined(at.sizes(), rest)))
    fail(ErrorCode::kInvalidArgument, "updates are not of the shape that indices and data give");
  const int64_t rows = c10::multiply_integers(sizes), width = c10::multiply_integers(rest);
  const at::Tensor out =
      scattered(data.reshape({rows, width}), 0, at.reshape({-1, 1}).expand({at.numel(), width}),
                updates.reshape({at.numel(), width}), call.node.text("reduction", "none"));
  return {out.reshape(data.sizes())};
}

Outputs non_zero(const Call& call) { return {at::nonzero(call.inputs[0]).t().contiguous()}; }

// A condition shorter than the axis leaves the rest out.
Outputs compress(const Call& call) {
  const bool flat = call.node.attributes.count("axis") == 0;
  const at::Tensor x = flat ? call.inputs[0].reshape({-1}) : call.inputs[0];
  const int64_t axis = normalised_axis(call.node.integer("axis", 0), x.dim());
  const at::Tensor& condition = call.inputs[1];
  if (condition.dim() != 1 || condition.size(0) > x.size(axis)) {
    fail(ErrorCode::kInvalidArgument, "a condition of {} elements for an axis of {}",
         condition.numel(), x.size(axis));
  }
  return {at::index_select(x, axis, at::nonzero(condition).squeeze(1))};
}

Outputs suppress(const Call& call) {
  const at::Tensor &boxes = call.inputs[0], &scores = call.inputs[1];
  if (boxes.dim() != 3 || scores.dim() != 3 || boxes.size(2) != 4 ||
      scores.size(0) != boxes.size(0) || scores.size(2) != boxes.size(1)) {
    fail(ErrorCode::kInvalidArgument,
         "boxes and scores are not [batch, n, 4] and [batch, classes, n]");
  }
  operators::SuppressionSpec spec;
  spec.center_point_box = call.node.integer("center_point_box", 0) != 0;
  if (call.has(2)) spec.max_boxes = integer(call.inputs[2], "max_output_boxes_per_class");
  for (size_t i = 3; i < 5; ++i) {
    if (call.has(i) && call.inputs[i].numel() != 1)
      fail(ErrorCode::kInvalidArgument, "input {} has {} elements, not 1", i,
           call.inputs[i].numel());
  }
  if (call.has(3)) spec.iou_threshold = call.inputs[3].item<float>();
  if (call.has(4)) spec.score_threshold = call.inputs[4].item<float>();
  const at::Tensor corners = boxes.detach().to(at::kFloat).contiguous(),
                   marks = scores.detach().to(at::kFloat).contiguous();
  const auto rows = operators::suppressed(corners.data_ptr<float>(), marks.data_ptr<float>(),
                                          {boxes.size(0), scores.size(1), boxes.size(1)}, spec);
  return {at::tensor(rows, at::kLong).reshape({static_cast<int64_t>(rows.size()) / 3, 3})};
}

// Each sequence's first elements, as many as its length, are turned round.
Outputs reverse_sequence(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t batch_axis = normalised_axis(call.node.integer("batch_axis", 1), x.dim()),
                time_axis = normalised_axis(call.node.integer("time_axis", 0), x.dim());
  if (batch_axis == time_axis)
    fail(ErrorCode::kInvalidArgument, "batch_axis and time_axis are both {}", batch_axis);
  const int64_t batch = x.size(batch_axis), steps = x.size(time_axis);
  const at::Tensor lengths = call.inputs[1].to(at::kLong);
  if (lengths.dim() != 1 || lengths.size(0) != batch)
    fail(ErrorCode::kInvalidArgument, "{} lengths for {} sequences", lengths.numel(), batch);
  if (at::logical_or(lengths<0, lengths> steps).any().item<bool>())
    fail(ErrorCode::kInvalidArgument, "a length is outside [0, {}]", steps);
  const at::Tensor time = at::arange(steps, at::kLong), length = lengths.unsqueeze(1);
  const at::Tensor from = at::where(time < length, length - 1 - time, time);  // [batch, time]
  const at::Tensor rows = from + at::arange(batch, at::kLong).unsqueeze(1) * steps;
  const at::Tensor front = at::movedim(x, {batch_axis, time_axis}, {0, 1});
  const at::Tensor turned =
      at::index_select(front.flatten(0, 1), 0, rows.reshape({-1})).reshape(front.sizes());
  return {at::movedim(turned, {0, 1}, {batch_axis, time_axis})};
}

constexpr OperatorEntry kOperators[] = {
    {"Gather", gather},
    {"GatherElements", gather_elements},
    {"GatherND", gather_nd},
    {"ScatterElements", scatter_elements},
    {"ScatterND", scatter_nd},
    {"NonZero", non_zero},
    {"Compress", compress},
    {"NonMaxSuppression", suppress},
    {"ReverseSequence", reverse_sequence},
};

}  // namespace

std::span<const OperatorEntry> index_operators() { return kOperators; }

}  // namespace packlight::exec

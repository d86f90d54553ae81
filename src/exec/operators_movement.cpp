#include <ATen/ATen.h>

#include "base/fail.h"
#include "exec/operators.h"
#include "operators/slice.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

// A view: products with it read the original rows.
Outputs transpose(const Call& call) {
  std::vector<int64_t> perm = call.node.integers("perm");
  if (perm.empty()) {
    for (int64_t i = call.inputs[0].dim() - 1; i >= 0; --i) perm.push_back(i);
  }
  return {call.inputs[0].permute(perm)};
}

Outputs unsqueeze(const Call& call) {
  std::vector<int64_t> axes = integers(call.inputs[1]);
  const auto rank = call.inputs[0].dim() + static_cast<int64_t>(axes.size());
  for (int64_t& axis : axes) axis = normalised_axis(axis, rank);
  std::sort(axes.begin(), axes.end());
  at::Tensor x = call.inputs[0];
  for (const int64_t axis : axes) x = x.unsqueeze(axis);
  return {x};
}

Outputs squeeze(const Call& call) {
  if (!call.has(1)) return {call.inputs[0].squeeze()};
  at::Tensor x = call.inputs[0];
  std::vector<int64_t> axes = integers(call.inputs[1]);
  for (int64_t& axis : axes) axis = normalised_axis(axis, x.dim());
  std::sort(axes.rbegin(), axes.rend());
  for (const int64_t axis : axes) {
    if (x.size(axis) != 1)
      fail(ErrorCode::kInvalidArgument, "axis {} has size {}, not 1", axis, x.size(axis));
    x = x.squeeze(axis);
  }
  return {x};
}

Outputs reshape(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  std::vector<int64_t> shape = integers(call.inputs[1]);
  if (call.node.integer("allowzero", 0) == 0) {
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] != 0) continue;
      if (static_cast<int64_t>(i) >= x.dim())
        fail(ErrorCode::kInvalidArgument, "dimension {} is copied but absent", i);
      shape[i] = x.size(static_cast<int64_t>(i));
    }
  }
  return {x.reshape(shape)};
}

Outputs flatten(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  int64_t axis = call.node.integer("axis", 1);
  if (axis != x.dim()) axis = x.dim() == 0 && axis == 1 ? 0 : normalised_axis(axis, x.dim());
  return {x.reshape({c10::multiply_integers(x.sizes().slice(0, axis)),
                     c10::multiply_integers(x.sizes().slice(axis))})};
}

Outputs concat(const Call& call) {
  return {at::cat(at::TensorList(call.inputs.data(), call.inputs.size()),
                  call.node.integer("axis", 0))};
}

Outputs slice(const Call& call) {
  const std::vector<int64_t> starts = integers(call.inputs[1]), ends = integers(call.inputs[2]);
  const std::vector<int64_t> axes = call.has(3) ? integers(call.inputs[3]) : std::vector<int64_t>{};
  const std::vector<int64_t> steps =
      call.has(4) ? integers(call.inputs[4]) : std::vector<int64_t>{};
  if (ends.size() != starts.size() || (call.has(3) && axes.size() != starts.size()) ||
      (call.has(4) && steps.size() != starts.size())) {
    fail(ErrorCode::kInvalidArgument, "starts, ends, axes and steps differ in length");
  }
  at::Tensor x = call.inputs[0];
  for (size_t i = 0; i < starts.size(); ++i) {
    const int64_t axis = normalised_axis(axes.empty() ? static_cast<int64_t>(i) : axes[i], x.dim());
    const int64_t step = steps.empty() ? 1 : steps[i];
    if (step == 0) fail(ErrorCode::kInvalidArgument, "step 0 on axis {}", axis);
    const operators::SliceRange range =
        operators::slice_range(x.size(axis), starts[i], ends[i], step);
    if (range.length == 0) {
      x = x.narrow(axis, 0, 0);
    } else if (step > 0) {
      x = x.slice(axis, range.start, range.start + (range.length - 1) * range.step + 1, range.step);
    } else {  // tensors have no negative strides: take the same elements upwards, then turn them
              // round
      const int64_t first = range.start + (range.length - 1) * range.step;
      x = x.slice(axis, first, range.start + 1, -range.step).flip(axis);
    }
  }
  return {x};
}

Outputs split(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t axis = normalised_axis(call.node.integer("axis", 0), x.dim());
  if (call.has(1)) return at::split_with_sizes(x, integers(call.inputs[1]), axis);
  const auto parts = static_cast<int64_t>(call.node.outputs.size());
  if (parts == 0) return {};
  const int64_t part = (x.size(axis) + parts - 1) / parts;
  Outputs out;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t begin = std::min(i * part, x.size(axis)),
                  end = std::min(begin + part, x.size(axis));
    out.push_back(x.narrow(axis, begin, end - begin));
  }
  return out;
}

constexpr OperatorEntry kOperators[] = {
    {"Transpose", transpose}, {"Unsqueeze", unsqueeze}, {"Squeeze", squeeze}, {"Reshape", reshape},
    {"Flatten", flatten},     {"Concat", concat},       {"Slice", slice},     {"Split", split},
};

}  // namespace

std::span<const OperatorEntry> movement_operators() { return kOperators; }

}  // namespace packlight::exec

#include <fmt/format.h>
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;
using Axes = std::vector<int64_t>;
// Over at least one axis; the axes are ascending and stay as dimensions of size one where `keep`.
using Reduction = at::Tensor(const at::Tensor&, const Axes&, bool keep);

bool is_float(const at::Tensor& tensor) { return at::isFloatingType(tensor.scalar_type()); }

// Which axes the node reduces, ascending. Errors: InvalidArgument.
Axes reduced_axes(const Call& call) {
  const int64_t rank = call.inputs[0].dim();
  Axes axes = call.has(1) ? integers(call.inputs[1]) : Axes{};
  for (int64_t& axis : axes) axis = normalised_axis(axis, rank);
  std::sort(axes.begin(), axes.end());
  if (std::adjacent_find(axes.begin(), axes.end()) != axes.end())
    fail(ErrorCode::kInvalidArgument, "an axis is given twice");
  if (axes.empty() && call.node.integer("noop_with_empty_axes", 0) == 0) {
    for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
  }
  return axes;
}

template <Reduction* reduction>
Outputs reduce(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const Axes axes = reduced_axes(call);
  // Over no axis at all (LibTorch would take all of them), each element is reduced by itself.
  if (axes.empty()) return {reduction(x.unsqueeze(0), {0}, false)};
  return {reduction(x, axes, call.node.integer("keepdims", 1) != 0)};
}

// What is defined for floats only; integers are truncated after it.
template <Reduction* reduction>
Outputs reduce_float(const Call& call) {
  if (is_float(call.inputs[0])) return reduce<reduction>(call);
  std::vector<at::Tensor> inputs(call.inputs.begin(), call.inputs.end());
  inputs[0] = inputs[0].to(at::kDouble);
  return {
      reduce<reduction>(Call{call.node, inputs, call.options})[0].to(call.inputs[0].scalar_type())};
}

at::Tensor sum(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::sum(x, axes, keep, x.scalar_type());
}
at::Tensor mean(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::mean(x, axes, keep);
}
at::Tensor l1(const at::Tensor& x, const Axes& axes, bool keep) {
  return sum(at::abs(x), axes, keep);
}
at::Tensor l2(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::linalg_vector_norm(x, 2, at::IntArrayRef(axes), keep);
}
at::Tensor log_sum(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::log(sum(x, axes, keep));
}
at::Tensor log_sum_exp(const at::Tensor& x, const Axes& axes, bool keep) {
  return at::logsumexp(x, axes, keep);
}
at::Tensor sum_square(const at::Tensor& x, const Axes& axes, bool keep) {
  return sum(x * x, axes, keep);
}

// LibTorch multiplies along one axis at a time: from the last on, so that the others keep theirs.
at::Tensor product(const at::Tensor& x, const Axes& axes, bool keep) {
  at::Tensor out = x;
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis)
    out = at::prod(out, *axis, keep, x.scalar_type());
  return out;
}

// The extreme of no elements: the one that every element beats.
at::Tensor extreme_of_none(const at::Tensor& x, const Axes& axes, bool keep, bool greatest) {
  const at::Tensor shaped = at::sum(x, axes, keep, x.scalar_type());  // of x's type, and empty sums
  if (is_float(x)) {
    const double infinity = std::numeric_limits<double>::infinity();
    return at::full_like(shaped, greatest ? -infinity : infinity);
  }
  return AT_DISPATCH_INTEGRAL_TYPES(x.scalar_type(), "extreme_of_none", [&] {
    using Limits = std::numeric_limits<scalar_t>;
    return at::full_like(shaped, static_cast<int64_t>(greatest ? Limits::min() : Limits::max()));
  });
}

// Also of BOOL: whether any (all) are true.
template <bool greatest>
at::Tensor extreme(const at::Tensor& x, const Axes& axes, bool keep) {
  if (x.scalar_type() == at::kBool) {
    at::Tensor out = x;
    for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis)
      out = greatest ? at::any(out, *axis, keep) : at::all(out, *axis, keep);
    return out;
  }
  const bool none =
      std::any_of(axes.begin(), axes.end(), [&](int64_t axis) { return x.size(axis) == 0; });
  if (none) return extreme_of_none(x, axes, keep, greatest);
  return greatest ? at::amax(x, axes, keep) : at::amin(x, axes, keep);
}

// The first place of the extreme, or the last one.
template <bool greatest>
Outputs arg(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t axis = normalised_axis(call.node.integer("axis", 0), x.dim());
  const bool keep = call.node.integer("keepdims", 1) != 0,
             last = call.node.integer("select_last_index", 0) != 0;
  if (x.size(axis) == 0) fail(ErrorCode::kInvalidArgument, "axis {} is empty", axis);
  const at::Tensor turned = last ? at::flip(x, axis) : x;
  const at::Tensor place =
      greatest ? at::argmax(turned, axis, keep) : at::argmin(turned, axis, keep);
  return {last ? x.size(axis) - 1 - place : place};
}

// A stable sort: of equal elements the one with the lower index comes first.
Outputs top_k(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t axis = normalised_axis(call.node.integer("axis", -1), x.dim());
  const std::vector<int64_t> k = integers(call.inputs[1]);
  if (k.size() != 1 || k[0] < 0 || k[0] > x.size(axis)) {
    fail(ErrorCode::kInvalidArgument, "k is {} for an axis of size {}", fmt::join(k, ", "),
         x.size(axis));
  }
  const auto [values, indices] =
      at::sort(x, /*stable=*/true, axis, call.node.integer("largest", 1) != 0);
  return {values.narrow(axis, 0, k[0]), indices.narrow(axis, 0, k[0])};
}

Outputs cum_sum(const Call& call) {
  at::Tensor x = call.inputs[0];
  const std::vector<int64_t> axes = integers(call.inputs[1]);
  if (axes.size() != 1) fail(ErrorCode::kInvalidArgument, "axis has {} elements", axes.size());
  const int64_t axis = normalised_axis(axes[0], x.dim()), size = x.size(axis);
  if (size == 0) return {x};
  const bool reverse = call.node.integer("reverse", 0) != 0;
  if (reverse) x = at::flip(x, axis);
  if (call.node.integer("exclusive", 0) != 0) {  // each place gets the sum of those before it
    const at::Tensor first = at::zeros_like(x.narrow(axis, 0, 1));
    x = at::cat({first, x.narrow(axis, 0, size - 1)}, axis);
  }
  const at::Tensor out = at::cumsum(x, axis, x.scalar_type());
  return {reverse ? at::flip(out, axis) : out};
}

constexpr OperatorEntry kOperators[] = {
    {"ArgMax", arg<true>},
    {"ArgMin", arg<false>},
    {"CumSum", cum_sum},
    {"ReduceL1", reduce<l1>},
    {"ReduceL2", reduce_float<l2>},
    {"ReduceLogSum", reduce_float<log_sum>},
    {"ReduceLogSumExp", reduce_float<log_sum_exp>},
    {"ReduceMax", reduce<extreme<true>>},
    {"ReduceMean", reduce_float<mean>},
    {"ReduceMin", reduce<extreme<false>>},
    {"ReduceProd", reduce<product>},
    {"ReduceSum", reduce<sum>},
    {"ReduceSumSquare", reduce<sum_square>},
    {"TopK", top_k},
};

}  // namespace

std::span<const OperatorEntry> reduction_operators() { return kOperators; }

}  // namespace packlight::exec

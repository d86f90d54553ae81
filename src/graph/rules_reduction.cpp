#include "graph/contents_arithmetic.h"
#include "graph/operator_rules.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

// The shape after taking `axes` out of `shape`, or making them one.
Shape without(const Shape& shape, const std::vector<bool>& axes, bool keep) {
  Shape out;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (!axes[i]) {
      out.push_back(shape[i]);
    } else if (keep) {
      out.push_back(1);
    }
  }
  return out;
}

// Which dimensions a reduction takes. Errors: Corrupt for axes outside or given twice.
std::vector<bool> reduced_axes(const InferContext& context, const std::vector<int64_t>& axes,
                               int64_t rank) {
  const bool none = context.node().integer("noop_with_empty_axes", 0) != 0;
  std::vector<bool> reduced(rank, axes.empty() && !none);
  for (const int64_t axis : axes) {
    const int64_t at = normalised_axis(context, axis, rank);
    if (reduced[at]) context.contradiction("axis {} is given twice", axis);
    reduced[at] = true;
  }
  return reduced;
}

void infer_reduction(InferContext& context) {
  reduction_contents(context);
  const auto& shape = context.shape(0);
  const bool keep = context.node().integer("keepdims", 1) != 0;
  const auto axes = context.has(1) ? context.integers(1) : std::vector<int64_t>{};
  std::optional<Shape> out;
  if (shape && axes) {
    const auto rank = static_cast<int64_t>(shape->size());
    out = without(*shape, reduced_axes(context, *axes, rank), keep);
  } else if (shape && keep) {
    out = Shape(shape->size());
  }
  context.set(0, context.type(0), std::move(out));
}

void infer_number_reduction(InferContext& context) {
  const ElementType type = context.type(0);
  if (type != ElementType::kUndefined && !is_float(type) && type != ElementType::kI32 &&
      type != ElementType::kI64)
    context.contradiction("input 0 is {}, not a float, I32 or I64", element_type_name(type));
  infer_reduction(context);
}

void infer_arg(InferContext& context) {
  const auto& shape = context.shape(0);
  if (!shape) return context.set(0, ElementType::kI64, std::nullopt);
  const auto rank = static_cast<int64_t>(shape->size());
  const int64_t axis = normalised_axis(context, context.node().integer("axis", 0), rank);
  if ((*shape)[axis].value == 0)
    context.contradiction("axis {} of {} is empty", axis, to_string(*shape));
  std::vector<bool> reduced(rank, false);
  reduced[axis] = true;
  context.set(0, ElementType::kI64,
              without(*shape, reduced, context.node().integer("keepdims", 1) != 0));
}

void infer_top_k(InferContext& context) {
  std::optional<Shape> out = context.shape(0);
  if (out) {
    const auto rank = static_cast<int64_t>(out->size());
    Dim& dim = (*out)[normalised_axis(context, context.node().integer("axis", -1), rank)];
    const auto k = context.integers(1);
    if (k && k->size() != 1) context.contradiction("k has {} elements", k->size());
    if (k && ((*k)[0] < 0 || (dim.known() && (*k)[0] > dim.value)))
      context.contradiction("k is {} for {}", (*k)[0], to_string(*context.shape(0)));
    dim = k ? Dim((*k)[0]) : Dim();
  }
  context.set(1, ElementType::kI64, out);
  context.set(0, context.type(0), std::move(out));
}

void infer_cum_sum(InferContext& context) {
  if (context.type(0) == ElementType::kBool) context.contradiction("input 0 is BOOL, not a number");
  const auto& shape = context.shape(0);
  const auto axis = context.integers(1);
  if (axis && axis->size() != 1) context.contradiction("axis has {} elements", axis->size());
  if (axis && shape) normalised_axis(context, (*axis)[0], static_cast<int64_t>(shape->size()));
  context.set(0, context.type(0), shape);
}

constexpr OperatorRule kRules[] = {
    {"ArgMax", 1, 1, 1, 1, infer_arg},
    {"ArgMin", 1, 1, 1, 1, infer_arg},
    {"CumSum", 2, 2, 1, 1, infer_cum_sum},
    {"ReduceL1", 1, 2, 1, 1, infer_number_reduction},
    {"ReduceL2", 1, 2, 1, 1, infer_number_reduction},
    {"ReduceLogSum", 1, 2, 1, 1, infer_number_reduction},
    {"ReduceLogSumExp", 1, 2, 1, 1, infer_number_reduction},
    {"ReduceMax", 1, 2, 1, 1, infer_reduction},
    {"ReduceMean", 1, 2, 1, 1, infer_number_reduction},
    {"ReduceMin", 1, 2, 1, 1, infer_reduction},
    {"ReduceProd", 1, 2, 1, 1, infer_number_reduction},
    {"ReduceSum", 1, 2, 1, 1, infer_number_reduction},
    {"ReduceSumSquare", 1, 2, 1, 1, infer_number_reduction},
    {"TopK", 2, 2, 2, 2, infer_top_k},
};

}  // namespace

std::span<const OperatorRule> reduction_rules() { return kRules; }

}  // namespace packlight::graph

#include <ATen/ATen.h>

#include <cmath>

#include "graph/coupling/coupling_rules.h"

namespace packlight::graph {
namespace {

// y[n, c] = (x[n, c] - mean[c]) / sqrt(var[c] + eps) * scale[c] + bias[c]: index c of all of them.
void couple_batch_norm(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  if (x.size() < 2) context.stop("has no channels");
  for (size_t i = 1; i < context.node().inputs.size(); ++i) context.unite(x[1], context.axes(i)[0]);
  context.set(0, x);
}

// Each channel's own statistics, over the picture.
void couple_instance_norm(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  for (size_t i = 2; i < x.size(); ++i) context.block(x[i], "has its statistics taken over it");
  couple_batch_norm(context);
}

// LayerNormalization, axes from `axis` on: what is left would have another mean.
void couple_layer_norm(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const int64_t axis = wrapped_axis(context.node().integer("axis", -1), x.size());
  for (size_t i = axis; i < x.size(); ++i) context.block(x[i], "has its mean taken over it");
  std::vector<ValueAxes> operands{x};
  for (size_t i = 1; i < context.node().inputs.size(); ++i) operands.push_back(context.axes(i));
  context.set(0, broadcast_axes(context, operands));
}

// y[.., c] = x[.., c] / sqrt(mean(x^2) + eps) * scale[c]: index c of x, scale and y. The mean is
// over fewer channels then: scale and eps make up for it (cut_rms_norm).
void couple_rms_norm(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const auto axis = static_cast<size_t>(wrapped_axis(context.node().integer("axis", -1), x.size()));
  if (axis + 1 != x.size()) {
    for (size_t i = axis; i < x.size(); ++i)
      context.block(x[i], "has its mean square taken over it");
    return context.set(0, x);
  }
  context.mark(x.back(), GroupKind::kWidth);
  const ValueAxes operands[] = {x, context.axes(1)};
  if (!x.back().fixed() && context.axes(1).back().size != x.back().size)
    context.block(x.back(), "has its mean square taken over it");
  context.set(0, broadcast_axes(context, operands));
}

// With k of n channels left and those that went zero, sum(x^2) is the same:
//   x / sqrt(sum / n + eps) = x / sqrt(sum / k + eps n / k) * sqrt(n / k)
void cut_rms_norm(CutContext& context) {
  const ValueId x = context.input(0);
  const auto axis = static_cast<int>(context.rank(x)) - 1;
  if (context.kept(x, axis) == nullptr) return;
  const auto n = static_cast<double>(context.size(x, axis));
  const auto k = static_cast<double>(context.left(x, axis));
  const auto& weight = std::get<at::Tensor>(*context.graph().value(context.input(1)).weight);
  if (weight.stride(0) != 0) context.set_weight(1, weight.to(at::kFloat) * std::sqrt(n / k));
  context.node().attributes["epsilon"] = context.node().number("epsilon", 1e-5) * n / k;
}

// GroupNormalization: channels [i * c / groups, (i + 1) * c / groups) are one unit.
void couple_group_norm(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const int64_t groups = context.node().integer("num_groups", 1);
  for (size_t i = 2; i < x.size(); ++i) context.block(x[i], "has its statistics taken over it");
  if (!x[1].fixed()) {
    const int64_t each = x[1].size / groups;
    for (int64_t c = 0; c < x[1].size; ++c)
      context.unite(x[1].units[c], x[1].units[c / each * each]);
  }
  for (size_t i = 1; i < 3; ++i) context.unite(x[1], context.axes(i)[0]);
  context.set(0, x);
}

void cut_group_norm(CutContext& context) {
  const int64_t was = context.size(context.input(0), 1), is = context.left(context.input(0), 1);
  if (is != was)
    context.node().attributes["num_groups"] = context.node().integer("num_groups", 1) * is / was;
}

// Softmax over an axis: what went would still have had a share.
void couple_softmax(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  context.block(x[wrapped_axis(context.node().integer("axis", -1), x.size())],
                "is normalised over");
  context.set(0, x);
}

// A reduction: the axes that it takes away stay, since what went would still have counted (an
// activation of zero need not be zero); the others pass.
void couple_reduction(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const bool keep = context.node().integer("keepdims", 1) != 0;
  std::vector<bool> reduced(x.size(), false);
  if (context.has(1)) {
    const auto axes = context.integers(1);
    if (!axes) context.stop("has computed axes");
    for (const int64_t axis : *axes) reduced[wrapped_axis(axis, x.size())] = true;
  }
  const bool none = !context.has(1) || context.integers(1)->empty();
  if (none && context.node().integer("noop_with_empty_axes", 0) == 0)
    reduced.assign(x.size(), true);
  ValueAxes out;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!reduced[i]) {
      out.push_back(x[i]);
      continue;
    }
    context.block(x[i], "is reduced");
    if (keep) out.push_back(context.fixed(1, "is reduced"));
  }
  context.set(0, std::move(out));
}

constexpr CouplingRule kRules[] = {
    {"BatchNormalization", couple_batch_norm},
    {"GroupNormalization", couple_group_norm, cut_group_norm},
    {"InstanceNormalization", couple_instance_norm},
    {"LayerNormalization", couple_layer_norm},
    {"LogSoftmax", couple_softmax},
    {"RMSNormalization", couple_rms_norm, cut_rms_norm},
    {"ReduceL1", couple_reduction},
    {"ReduceL2", couple_reduction},
    {"ReduceMax", couple_reduction},
    {"ReduceMean", couple_reduction},
    {"ReduceMin", couple_reduction},
    {"ReduceProd", couple_reduction},
    {"ReduceSum", couple_reduction},
    {"ReduceSumSquare", couple_reduction},
    {"Softmax", couple_softmax},
};

}  // namespace

std::span<const CouplingRule> coupling_of_normalizations() { return kRules; }

}  // namespace packlight::graph

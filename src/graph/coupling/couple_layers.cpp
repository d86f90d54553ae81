// Convolutions and matrix products: an output has units of its own, an input takes its weight's.

#include "graph/coupling/coupling_rules.h"

namespace packlight::graph {
namespace {

constexpr std::string_view kSpatial = "is an axis of the picture";

void set_picture(CouplingContext& context, const Axis& batch, const Axis& channels) {
  const auto& shape = context.output_shape(0);
  if (!shape) return;
  ValueAxes out{batch, channels};
  for (size_t i = 2; i < shape->size(); ++i) out.push_back(context.fixed((*shape)[i], kSpatial));
  context.set(0, std::move(out));
}

void block_picture(CouplingContext& context, const ValueAxes& x) {
  for (size_t i = 2; i < x.size(); ++i) context.block(x[i], kSpatial);
}

void unite_bias(CouplingContext& context, size_t input, const Axis& channels) {
  if (context.has(input)) context.unite(context.axes(input)[0], channels);
}

// Channels [i * size / groups, (i + 1) * size / groups) of both axes are one unit, for each i.
void unite_groups(CouplingContext& context, const Axis& a, const Axis& b, int64_t groups) {
  if (a.fixed() || b.fixed()) {
    context.unite(a, b);  // blocks the other
    return;
  }
  const int64_t of_a = a.size / groups, of_b = b.size / groups;
  for (int64_t i = 0; i < a.size; ++i) context.unite(a.units[i], a.units[i / of_a * of_a]);
  for (int64_t i = 0; i < b.size; ++i) context.unite(b.units[i], a.units[i / of_b * of_a]);
}

// Conv: y[n, o] = b[o] + sum over c of w[o, c] * x[n, c]
//   one group:    index c of x's axis 1 and of w's axis 1; index o of w's axis 0, b and y's axis 1
//   k groups:     the channels of x, w's axis 0, b and y that belong to one group, all together: a
//                 group goes as a whole. Depthwise (k = channels): x [n, 8], w [16, 1]: channel 3
//                 of x goes with rows 6 and 7 of w and channels 6 and 7 of y
void couple_conv(CouplingContext& context) {
  const ValueAxes &x = context.axes(0), &w = context.axes(1);
  const int64_t groups = context.node().integer("group", 1);
  const Axis &in = x[1], &out = w[0];
  block_picture(context, x);
  if (groups == 1) {
    context.unite(in, w[1]);
  } else {
    context.block(w[1], "is a place within a group of channels");
    unite_groups(context, in, out, groups);
  }
  unite_bias(context, 2, out);
  set_picture(context, x[0], out);
}

// Groups that are left: all groups are of the same size.
void cut_groups(CutContext& context) {
  const int64_t groups = context.node().integer("group", 1);
  const int64_t was = context.size(context.input(0), 1), is = context.left(context.input(0), 1);
  if (groups > 1 && is != was) context.node().attributes["group"] = groups * is / was;
}

// ConvTranspose: w [c, o / groups]; otherwise as Conv.
void couple_conv_transpose(CouplingContext& context) {
  const ValueAxes &x = context.axes(0), &w = context.axes(1);
  const int64_t groups = context.node().integer("group", 1);
  context.unite(x[1], w[0]);
  block_picture(context, x);
  Axis out = w[1];
  if (groups > 1) {
    context.block(w[1], "is a place within a group of channels");
    out = context.fresh(w[1].size < 0 ? -1 : w[1].size * groups);
    unite_groups(context, x[1], out, groups);
  }
  unite_bias(context, 2, out);
  set_picture(context, x[0], out);
}

// y[.., m, n] = sum over k of a[.., m, k] * b[.., k, n]: index k of both; m and n pass; the axes
// before broadcast. Where neither factor is a weight, k stays: what was zero before an activation
// need not be zero in the sum.
void couple_product(CouplingContext& context, ValueAxes a, ValueAxes b, bool has_weight) {
  const bool row = a.size() == 1, column = b.size() == 1;
  const Axis& k = a.back();
  const Axis& same = b[column ? 0 : b.size() - 2];
  context.unite(k, same);
  if (!has_weight) {
    context.block(k, "is summed over");
    context.block(same, "is summed over");
  }
  const auto batch = [](const ValueAxes& axes) {
    return ValueAxes(axes.begin(), axes.size() > 2 ? axes.end() - 2 : axes.begin());
  };
  const ValueAxes batches[] = {batch(a), batch(b)};
  ValueAxes out = broadcast_axes(context, batches);
  if (!row) out.push_back(a[a.size() - 2]);
  if (!column) out.push_back(b.back());
  context.set(0, std::move(out));
}

bool is_weight_or_transposed(const CouplingContext& context, size_t input) {
  if (context.is_weight(input)) return true;
  const NodeId maker = context.graph().value(context.node().inputs[input]).producer;
  if (maker < 0 || context.graph().node(maker).op != "Transpose") return false;
  return context.graph().value(context.graph().node(maker).inputs[0]).weight.has_value();
}

void couple_matmul(CouplingContext& context) {
  const bool has_weight =
      is_weight_or_transposed(context, 0) || is_weight_or_transposed(context, 1);
  couple_product(context, context.axes(0), context.axes(1), has_weight);
}

// Gemm: the same with transA and transB, and an addend that broadcasts to y.
void couple_gemm(CouplingContext& context) {
  ValueAxes a = context.axes(0), b = context.axes(1);
  if (context.node().integer("transA", 0) != 0) std::swap(a[0], a[1]);
  if (context.node().integer("transB", 0) != 0) std::swap(b[0], b[1]);
  const bool has_weight =
      is_weight_or_transposed(context, 0) || is_weight_or_transposed(context, 1);
  const ValueAxes y{a[0], b[1]};
  couple_product(context, std::move(a), std::move(b), has_weight);
  if (!context.has(2)) return;
  const ValueAxes operands[] = {y, context.axes(2)};
  context.set(0, broadcast_axes(context, operands));
}

constexpr CouplingRule kRules[] = {
    {"Conv", couple_conv, cut_groups},
    {"ConvTranspose", couple_conv_transpose, cut_groups},
    {"MatMul", couple_matmul},
    {"Gemm", couple_gemm},
};

}  // namespace

std::span<const CouplingRule> coupling_of_layers() { return kRules; }

}  // namespace packlight::graph

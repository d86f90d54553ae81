// What works on each channel of a picture by itself.

#include "graph/coupling/coupling_rules.h"

namespace packlight::graph {
namespace {

// Pooling: y[n, c] = pool(x[n, c]): the first two axes pass, the picture's do not.
void couple_pooling(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const auto& shape = context.output_shape(0);
  if (!shape || x.size() < 2) context.stop("has an output of unknown rank");
  ValueAxes out{x[0], x[1]};
  for (size_t i = 2; i < x.size(); ++i) {
    context.block(x[i], "is an axis of the picture");
    out.push_back(context.fixed((*shape)[i], "is an axis of the picture"));
  }
  context.set(0, std::move(out));
}

// An axis of which every index stays where it is passes; any other is fixed.
void pass_unchanged(CouplingContext& context, std::string_view why) {
  const ValueAxes& x = context.axes(0);
  const auto& shape = context.output_shape(0);
  if (!shape || shape->size() != x.size()) context.stop("has an output of unknown rank");
  ValueAxes out = x;
  for (size_t i = 0; i < x.size(); ++i) {
    const Dim& dim = (*shape)[i];
    if (!x[i].fixed() && dim.known() && dim.value == x[i].size) continue;
    context.block(x[i], why);
    out[i] = context.fixed(dim, why);
  }
  context.set(0, std::move(out));
}

// Resize: axes of the same size pass. Constant sizes are told again.
void couple_resize(CouplingContext& context) {
  if (context.node().text("coordinate_transformation_mode", "") == "tf_crop_and_resize")
    context.stop("crops");
  if (context.has(3) && !context.integers(3)) {
    for (const Axis& axis : context.axes(0)) context.block(axis, "has computed sizes");
  }
  pass_unchanged(context, "is resized");
}

void cut_resize(CutContext& context) {
  if (!context.has(3)) return;
  auto sizes = context.integers(3);
  if (!sizes) return;
  const std::vector<int64_t> axes = context.node().integers("axes");
  for (size_t i = 0; i < sizes->size(); ++i) {
    const auto axis =
        static_cast<int>(axes.empty() ? static_cast<int64_t>(i)
                                      : wrapped_axis(axes[i], context.rank(context.input(0))));
    if (context.kept(context.input(0), axis) != nullptr)
      (*sizes)[i] = context.left(context.input(0), axis);
  }
  context.set_integers(3, *sizes);
}

// Pad: axes that get nothing pass. Negative padding of one side and positive of the other would
// keep the size, too.
void couple_pad(CouplingContext& context) {
  const auto pads = context.integers(1);
  if (!pads) context.stop("has computed padding");
  const ValueAxes& x = context.axes(0);
  std::vector<int64_t> axes;
  if (context.has(3)) {
    const auto given = context.integers(3);
    if (!given) context.stop("has computed axes");
    for (const int64_t axis : *given) axes.push_back(wrapped_axis(axis, x.size()));
  } else {
    for (size_t i = 0; i < x.size(); ++i) axes.push_back(static_cast<int64_t>(i));
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    if ((*pads)[i] != 0 || (*pads)[axes.size() + i] != 0) context.block(x[axes[i]], "is padded");
  }
  pass_unchanged(context, "is padded");
}

constexpr CouplingRule kRules[] = {
    {"AveragePool", couple_pooling},
    {"GlobalAveragePool", couple_pooling},
    {"GlobalMaxPool", couple_pooling},
    {"MaxPool", couple_pooling},
    {"Pad", couple_pad},
    {"Resize", couple_resize, cut_resize},
};

}  // namespace

std::span<const CouplingRule> coupling_of_windows() { return kRules; }

}  // namespace packlight::graph

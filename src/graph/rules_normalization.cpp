#include "graph/operator_rules.h"

namespace packlight::graph {
namespace {

// Input `input` is a vector with one element for each of `channels`.
void check_vector(const InferContext& context, size_t input, const char* name,
                  const Dim& channels) {
  const auto& shape = context.shape(input);
  if (!shape) return;
  if (shape->size() != 1 || !compatible((*shape)[0], channels)) {
    context.contradiction("{} {} is not [{}]", name, to_string(*shape),
                          channels.known() ? std::to_string(channels.value) : channels.symbol);
  }
}

void infer_batch_normalization(InferContext& context) {
  const auto& x = context.shape(0);
  Dim channels;
  if (x) {
    if (x->empty()) context.contradiction("the input is a scalar");
    channels = x->size() > 1 ? (*x)[1] : Dim(1);
    constexpr const char* kNames[] = {"scale", "bias", "mean", "variance"};
    for (size_t i = 0; i < 4; ++i) check_vector(context, i + 1, kNames[i], channels);
  }
  context.set(0, context.type(0), x);
  const auto& mean = context.shape(3);
  for (size_t output = 1; output < context.output_count(); ++output)
    context.set(output, context.type(3), mean ? mean : std::optional(Shape{channels}));
}

// X [batch, channels, spatial...], scale and bias [channels].
void infer_instance_normalization(InferContext& context) {
  const auto& x = context.shape(0);
  if (x) {
    if (x->size() < 3) context.contradiction("input {} has no spatial axis", to_string(*x));
    check_vector(context, 1, "scale", (*x)[1]);
    check_vector(context, 2, "bias", (*x)[1]);
  }
  context.set(0, context.type(0), x);
}

// scale_by_group (ours, for models of opset 18): scale and bias [groups].
void infer_group_normalization(InferContext& context) {
  const auto& x = context.shape(0);
  const int64_t groups = context.node().integer("num_groups", 0);
  if (groups < 1) context.contradiction("num_groups is {}", groups);
  if (x) {
    if (x->size() < 2) context.contradiction("input {} has no channels", to_string(*x));
    const Dim& channels = (*x)[1];
    if (channels.known() && channels.value % groups != 0)
      context.contradiction("{} groups do not divide {} channels", groups, channels.value);
    const bool by_group = context.node().integer("scale_by_group", 0) != 0;
    check_vector(context, 1, "scale", by_group ? Dim(groups) : channels);
    check_vector(context, 2, "bias", by_group ? Dim(groups) : channels);
  }
  context.set(0, context.type(0), x);
}

// Scale and bias broadcast to X; mean and inverse deviation keep the axes before `axis`.
void infer_layer_normalization(InferContext& context) {
  const auto& x = context.shape(0);
  if (!x) {
    for (size_t i = 0; i < 3; ++i) context.set(i, context.type(0), std::nullopt);
    return;
  }
  const int64_t axis =
      normalised_axis(context, context.node().integer("axis", -1), static_cast<int64_t>(x->size()));
  for (const size_t input : {1, 2}) {
    const auto& shape = context.shape(input);
    if (!shape) continue;
    const Shape wide = *broadcast(context, *x, *shape);
    bool fits = wide.size() == x->size();
    for (size_t i = 0; fits && i < wide.size(); ++i) fits = compatible(wide[i], (*x)[i]);
    if (!fits) {
      context.contradiction("{} {} does not broadcast to {}", input == 1 ? "scale" : "bias",
                            to_string(*shape), to_string(*x));
    }
  }
  Shape statistics = *x;
  for (size_t i = axis; i < statistics.size(); ++i) statistics[i] = 1;
  context.set(0, context.type(0), x);
  context.set(1, context.type(0), statistics);
  context.set(2, context.type(0), statistics);
}

void infer_lp_normalization(InferContext& context) {
  const auto& x = context.shape(0);
  const int64_t p = context.node().integer("p", 2);
  if (p != 1 && p != 2) context.contradiction("p is {}, neither 1 nor 2", p);
  if (x) {
    normalised_axis(context, context.node().integer("axis", -1), static_cast<int64_t>(x->size()));
  }
  context.set(0, context.type(0), x);
}

// Across channels: X [batch, channels, ...].
void infer_lrn(InferContext& context) {
  const auto& x = context.shape(0);
  const int64_t size = context.node().integer("size", 0);
  if (size < 1) context.contradiction("size is {}", size);
  if (x && x->size() < 2) context.contradiction("input {} has no channels", to_string(*x));
  context.set(0, context.type(0), x);
}

void infer_mean_variance_normalization(InferContext& context) {
  const auto& x = context.shape(0);
  for (const int64_t axis : context.node().integers("axes")) {
    if (x) normalised_axis(context, axis, static_cast<int64_t>(x->size()));
  }
  context.set(0, context.type(0), x);
}

constexpr OperatorRule kRules[] = {
    {"BatchNormalization", 5, 5, 1, 3, infer_batch_normalization},
    {"InstanceNormalization", 3, 3, 1, 1, infer_instance_normalization},
    {"GroupNormalization", 3, 3, 1, 1, infer_group_normalization},
    {"LayerNormalization", 2, 3, 1, 3, infer_layer_normalization},
    {"LpNormalization", 1, 1, 1, 1, infer_lp_normalization},
    {"LRN", 1, 1, 1, 1, infer_lrn},
    {"MeanVarianceNormalization", 1, 1, 1, 1, infer_mean_variance_normalization},
};

}  // namespace

std::span<const OperatorRule> normalization_rules() { return kRules; }

}  // namespace packlight::graph

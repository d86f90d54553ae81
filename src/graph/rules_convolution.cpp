#include "graph/operator_rules.h"
#include "graph/window_rules.h"

namespace packlight::graph {
namespace {

// The input, the weight, and what both say of a node. X [batch, channels, spatial...].
struct Convolution {
  const Shape& x;
  const Shape& w;
  int64_t groups;
};

void check_ranks(const InferContext& context, const Convolution& it) {
  if (it.x.size() < 3) context.contradiction("input {} has no spatial axis", to_string(it.x));
  if (it.w.size() != it.x.size()) {
    context.contradiction("weight {} and input {} differ in rank", to_string(it.w),
                          to_string(it.x));
  }
  if (it.groups < 1) context.contradiction("group is {}", it.groups);
}

void check_channels(const InferContext& context, const Convolution& it, const Dim& from_weight) {
  if (!compatible(it.x[1], from_weight)) {
    context.contradiction("input {} has {} channels, weight {} in {} groups takes {}",
                          to_string(it.x), it.x[1].value, to_string(it.w), it.groups,
                          from_weight.value);
  }
}

void check_divided(const InferContext& context, const Convolution& it, const Dim& channels) {
  if (channels.known() && channels.value % it.groups != 0) {
    context.contradiction("{} groups do not divide the {} channels of weight {}", it.groups,
                          channels.value, to_string(it.w));
  }
}

void check_bias(const InferContext& context, size_t input, const Dim& channels) {
  const auto& bias = context.shape(input);
  if (!bias) return;
  if (bias->size() != 1 || !compatible((*bias)[0], channels))
    context.contradiction("bias {} is not [{}]", to_string(*bias), channels.value);
}

Dim times(const InferContext& context, const Dim& dim, int64_t groups) {
  int64_t product = 0;
  if (!dim.known()) return groups == 1 ? dim : Dim();
  if (__builtin_mul_overflow(dim.value, groups, &product))
    context.contradiction("{} channels in {} groups overflow", dim.value, groups);
  return product;
}

// W [outputs, channels / groups, kernel...]
void infer_conv(InferContext& context, ElementType type, size_t weight_input) {
  const auto &x = context.shape(0), &w = context.shape(weight_input);
  if (!x || !w) return context.set(0, type, std::nullopt);
  const Convolution it{*x, *w, context.node().integer("group", 1)};
  check_ranks(context, it);
  check_channels(context, it, times(context, (*w)[1], it.groups));
  check_divided(context, it, (*w)[0]);
  Shape out = windowed_shape(context, *x, Shape(w->begin() + 2, w->end()));
  out[1] = (*w)[0];
  context.set(0, type, std::move(out));
}

void infer_float_conv(InferContext& context) {
  infer_conv(context, context.type(0), 1);
  if (const auto& w = context.shape(1); w && !w->empty()) check_bias(context, 2, (*w)[0]);
}

// W [channels, outputs / groups, kernel...]
void infer_conv_transpose(InferContext& context) {
  const auto &x = context.shape(0), &w = context.shape(1);
  if (!x || !w) return context.set(0, context.type(0), std::nullopt);
  const Convolution it{*x, *w, context.node().integer("group", 1)};
  check_ranks(context, it);
  check_channels(context, it, (*w)[0]);
  check_divided(context, it, (*w)[0]);
  Shape out(x->size());
  out[0] = (*x)[0];
  out[1] = times(context, (*w)[1], it.groups);
  check_bias(context, 2, out[1]);
  const auto window = known_window(context, Shape(w->begin() + 2, w->end()));
  for (size_t i = 0; window && i < window->size(); ++i) {
    const WindowAxis& axis = (*window)[i];
    const Dim& size = (*x)[i + 2];
    if (!size.known()) {
      if (axis.output_size >= 0) out[i + 2] = axis.output_size;
      continue;
    }
    check_window_input(context, size.value);
    const operators::TransposedExtent extent = transposed_extent(axis, size.value);
    if (extent.count < 1)
      context.contradiction("nothing is left of axis {} of input {}", i + 2, to_string(*x));
    out[i + 2] = extent.count;
  }
  context.set(0, context.type(0), std::move(out));
}

constexpr OperatorRule kRules[] = {
    {"Conv", 2, 3, 1, 1, infer_float_conv},
    {"ConvTranspose", 2, 3, 1, 1, infer_conv_transpose},
};

}  // namespace

void infer_convolution(InferContext& context, ElementType type, size_t weight_input) {
  infer_conv(context, type, weight_input);
}

std::span<const OperatorRule> convolution_rules() { return kRules; }

}  // namespace packlight::graph

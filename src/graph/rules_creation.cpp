// Operators that make tensors out of shapes and numbers, and what larger tensors repeat.
#include <ATen/core/Tensor.h>

#include "graph/operator_rules.h"
#include "graph/weight.h"
#include "operators/slice.h"

namespace packlight::graph {
namespace {

using Element = InferContext::Element;
using Elements = InferContext::Elements;

Element element_of(const Dim& dim) {
  return {dim.known() ? std::optional(dim.value) : std::nullopt, dim.symbol};
}

// Arithmetic is in F32 whatever float type a file names.
ElementType arithmetic_type(ElementType type) { return is_float(type) ? ElementType::kF32 : type; }

void infer_shape(InferContext& context) {
  const auto& shape = context.shape(0);
  if (!shape) return context.set(0, ElementType::kI64, Shape(1));
  const auto rank = static_cast<int64_t>(shape->size());
  const operators::SliceRange range = operators::slice_range(
      rank, context.node().integer("start", 0), context.node().integer("end", rank), 1);
  Elements elements;
  for (int64_t i = 0; i < range.length; ++i)
    elements.push_back(element_of((*shape)[range.start + i]));
  context.set_contents(0, std::move(elements));
  context.set(0, ElementType::kI64, Shape{range.length});
}

void infer_size(InferContext& context) {
  if (const auto& shape = context.shape(0)) context.set_contents(0, {element_of(product(*shape))});
  context.set(0, ElementType::kI64, Shape{});
}

// Sets contents of `count` times the same, where that is short.
void repeat_contents(InferContext& context, const Elements& elements, const Dim& count) {
  if (!count.known() || count.value > kMaxRank || elements.size() > kMaxRank ||
      count.value * static_cast<int64_t>(elements.size()) > kMaxRank)
    return;
  Elements out;
  for (int64_t i = 0; i < count.value; ++i) out.insert(out.end(), elements.begin(), elements.end());
  context.set_contents(0, std::move(out));
}

void infer_constant_of_shape(InferContext& context) {
  const std::optional<Shape> shape = shape_in(context, 0);
  ElementType type = ElementType::kF32;
  const auto it = context.node().attributes.find("value");
  if (it != context.node().attributes.end()) {
    const auto* value = std::get_if<at::Tensor>(&it->second);
    if (value == nullptr || !value->defined() || value->numel() != 1)
      context.contradiction("attribute 'value' is no tensor of one element");
    type = arithmetic_type(from_scalar_type(value->scalar_type()));
    const bool integers = type == ElementType::kI64 || type == ElementType::kI32;
    if (integers && shape && shape->size() <= 1)
      repeat_contents(context, {{value->item().toLong(), ""}},
                      shape->empty() ? Dim(1) : (*shape)[0]);
  }
  context.set(0, type, shape);
}

// Range(0, n, 1) of a symbol has n elements; otherwise only numbers tell.
void infer_range(InferContext& context) {
  ElementType type = same_type(context, 0, 1);
  if (type == ElementType::kUndefined) type = context.type(2);
  same_type(context, 0, 2);
  same_type(context, 1, 2);
  Element bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    const auto elements = context.contents(i);
    if (elements && elements->size() != 1)
      context.contradiction("input {} has {} elements, not 1", i, elements->size());
    if (elements) bounds[i] = (*elements)[0];
  }
  const auto& [start, limit, delta] = bounds;
  if (delta.number == 0) context.contradiction("delta is 0");
  Dim length;
  if (start.number && limit.number && delta.number) {
    length = operators::range_length(*start.number, *limit.number, *delta.number);
  } else if (start.number == 0 && delta.number == 1) {
    length = limit.dim();
  }
  if (start.number && delta.number && length.known() && length.value <= kMaxRank) {
    Elements out;
    for (int64_t i = 0; i < length.value; ++i)
      out.push_back({*start.number + i * *delta.number, ""});
    context.set_contents(0, std::move(out));
  }
  context.set(0, type, Shape{length});
}

void infer_expand(InferContext& context) {
  const auto& shape = context.shape(0);
  const std::optional<Shape> target = shape_in(context, 1);
  if (!shape || !target) return context.set(0, context.type(0), std::nullopt);
  const auto out = broadcast(context, *shape, *target);
  if (const auto elements = context.contents(0); elements && out->size() <= 1) {
    const bool repeated = elements->size() == 1 && !out->empty();
    repeat_contents(context, *elements, repeated ? (*out)[0] : Dim(1));
  }
  context.set(0, context.type(0), out);
}

void infer_tile(InferContext& context) {
  const auto& shape = context.shape(0);
  const std::optional<Shape> repeats = shape_in(context, 1);
  if (!shape || !repeats) {
    std::optional<Shape> unknown;
    if (shape || repeats) unknown.emplace(shape ? shape->size() : repeats->size());
    return context.set(0, context.type(0), std::move(unknown));
  }
  if (shape->size() != repeats->size())
    context.contradiction("{} repeats for shape {}", repeats->size(), to_string(*shape));
  Shape out;
  for (size_t i = 0; i < shape->size(); ++i) {
    const Dim factors[] = {(*shape)[i], (*repeats)[i]};
    out.push_back(product(factors));
    if (!out.back().known() && factors[0].known() && factors[1].known())
      context.contradiction("axis {} of {} overflows", i, to_string(*shape));
  }
  if (const auto elements = context.contents(0))
    repeat_contents(context, *elements, repeats->empty() ? Dim(1) : (*repeats)[0]);
  context.set(0, context.type(0), std::move(out));
}

void infer_eye_like(InferContext& context) {
  const auto& shape = context.shape(0);
  if (shape && shape->size() != 2) context.contradiction("{} is no matrix", to_string(*shape));
  const int64_t dtype = context.node().integer("dtype", 0);
  const ElementType type = dtype == 0 ? context.type(0) : arithmetic_type(from_onnx_type(dtype));
  context.set(0, type, shape ? shape : Shape(2));
}

void infer_one_hot(InferContext& context) {
  const auto &indices = context.shape(0), &values = context.shape(2);
  if (values && (values->size() != 1 || !compatible((*values)[0], Dim(2))))
    context.contradiction("values are {}, not [off, on]", to_string(*values));
  const auto depth = context.contents(1);
  if (depth && depth->size() != 1)
    context.contradiction("depth has {} elements, not 1", depth->size());
  if (depth && (*depth)[0].number && *(*depth)[0].number < 0)
    context.contradiction("depth is {}", *(*depth)[0].number);
  if (!indices) return context.set(0, context.type(2), std::nullopt);
  const int64_t axis = normalised_axis(context, context.node().integer("axis", -1),
                                       static_cast<int64_t>(indices->size()) + 1);
  Shape out = *indices;
  out.insert(out.begin() + axis, depth ? (*depth)[0].dim() : Dim());
  context.set(0, context.type(2), std::move(out));
}

void infer_trilu(InferContext& context) {
  const auto& shape = context.shape(0);
  if (shape && shape->size() < 2)
    context.contradiction("{} has fewer than two dimensions", to_string(*shape));
  context.set(0, context.type(0), shape);
}

constexpr OperatorRule kRules[] = {
    {"Shape", 1, 1, 1, 1, infer_shape},
    {"Size", 1, 1, 1, 1, infer_size},
    {"ConstantOfShape", 1, 1, 1, 1, infer_constant_of_shape},
    {"Range", 3, 3, 1, 1, infer_range},
    {"Expand", 2, 2, 1, 1, infer_expand},
    {"Tile", 2, 2, 1, 1, infer_tile},
    {"EyeLike", 1, 1, 1, 1, infer_eye_like},
    {"OneHot", 3, 3, 1, 1, infer_one_hot},
    {"Trilu", 1, 2, 1, 1, infer_trilu},
};

}  // namespace

std::span<const OperatorRule> creation_rules() { return kRules; }

}  // namespace packlight::graph

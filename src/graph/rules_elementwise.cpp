#include "graph/contents_arithmetic.h"
#include "graph/operator_rules.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

void require(const InferContext& context, size_t input, bool (*fits)(ElementType),
             const char* kind) {
  const ElementType type = context.type(input);
  if (type != ElementType::kUndefined && !fits(type))
    context.contradiction("input {} is {}, not {}", input, element_type_name(type), kind);
}
bool is_bool(ElementType type) { return type == ElementType::kBool; }
bool is_numeric(ElementType type) {
  return type != ElementType::kBool && type != ElementType::kString;
}

// The element type that inputs from `first` on have in common. Errors: Corrupt.
ElementType common_type(const InferContext& context, size_t first) {
  ElementType common = ElementType::kUndefined;
  for (size_t i = first; i < context.input_count(); ++i) {
    const ElementType type = context.type(i);
    if (common == ElementType::kUndefined) common = type;
    if (type != common && type != ElementType::kUndefined) {
      context.contradiction("element types {} and {} differ", element_type_name(common),
                            element_type_name(type));
    }
  }
  return common;
}

// What all inputs broadcast to. Errors: Corrupt for an absent one.
std::optional<Shape> broadcast_inputs(const InferContext& context) {
  std::optional<Shape> out = context.shape(0);
  for (size_t i = 0; i < context.input_count(); ++i) {
    if (!context.has(i)) context.contradiction("input {} is absent", i);
    const auto& shape = context.shape(i);
    out = out && shape ? broadcast(context, *out, *shape) : std::nullopt;
  }
  return out;
}

void infer_float(InferContext& context) {
  require(context, 0, is_float, "a float");
  context.set(0, context.type(0), context.shape(0));
}

void infer_number(InferContext& context) {
  require(context, 0, is_numeric, "a number");
  context.set(0, context.type(0), context.shape(0));
}

void infer_identity(InferContext& context) {
  if (auto elements = context.contents(0)) context.set_contents(0, std::move(*elements));
  context.set(0, context.type(0), context.shape(0));
}

void infer_arithmetic(InferContext& context) {
  require(context, 0, is_numeric, "a number");
  const ElementType type = common_type(context, 0);
  context.set(0, type, broadcast_inputs(context));
  arithmetic_contents(context);
}

void infer_float_arithmetic(InferContext& context) {
  require(context, 0, is_float, "a float");
  infer_arithmetic(context);
}

void infer_pow(InferContext& context) {
  require(context, 0, is_numeric, "a number");
  require(context, 1, is_numeric, "a number");
  context.set(0, context.type(0), broadcast_inputs(context));
}

void infer_equal(InferContext& context) {
  common_type(context, 0);
  context.set(0, ElementType::kBool, broadcast_inputs(context));
  arithmetic_contents(context);
}

void infer_order(InferContext& context) {
  require(context, 0, is_numeric, "a number");
  infer_equal(context);
}

void infer_logic(InferContext& context) {
  for (size_t i = 0; i < context.input_count(); ++i) require(context, i, is_bool, "BOOL");
  context.set(0, ElementType::kBool, broadcast_inputs(context));
}

void infer_float_test(InferContext& context) {
  require(context, 0, is_float, "a float");
  context.set(0, ElementType::kBool, context.shape(0));
}

void infer_where(InferContext& context) {
  require(context, 0, is_bool, "BOOL");
  const ElementType type = common_type(context, 1);
  context.set(0, type, broadcast_inputs(context));
  where_contents(context);
}

// The bounds are single numbers.
void infer_clip(InferContext& context) {
  require(context, 0, is_numeric, "a number");
  const ElementType type = common_type(context, 0);
  for (size_t i = 1; i < context.input_count(); ++i) {
    const auto& shape = context.shape(i);
    bool single = !shape || shape->size() <= 1;
    if (shape && shape->size() == 1) single = compatible((*shape)[0], Dim(1));
    if (!single) context.contradiction("bound {} is no single number", to_string(*shape));
  }
  context.set(0, type, context.shape(0));
}

void infer_cast(InferContext& context) {
  const ElementType to = from_onnx_type(context.node().integer("to", 0));
  context.set(0, to, context.shape(0));
  cast_contents(context, to);
}

void infer_cast_like(InferContext& context) {
  const ElementType like = context.type(1);
  const ElementType to = is_float(like) ? ElementType::kF32 : like;
  context.set(0, to, context.shape(0));
  cast_contents(context, to);
}

void infer_dropout(InferContext& context) {
  require(context, 0, is_float, "a float");
  for (size_t i = 1; i < context.input_count(); ++i) {
    const auto& shape = context.shape(i);
    if (shape && shape->size() > 1)
      context.contradiction("input {} is {}, no single value", i, to_string(*shape));
  }
  context.set(0, context.type(0), context.shape(0));
  context.set(1, ElementType::kBool, context.shape(0));
}

constexpr OperatorRule kRules[] = {
    {"Abs", 1, 1, 1, 1, infer_number},
    {"Add", 2, 2, 1, 1, infer_arithmetic},
    {"And", 2, 2, 1, 1, infer_logic},
    {"Cast", 1, 1, 1, 1, infer_cast},
    {"CastLike", 2, 2, 1, 1, infer_cast_like},
    {"Ceil", 1, 1, 1, 1, infer_float},
    {"Clip", 1, 3, 1, 1, infer_clip},
    {"Cos", 1, 1, 1, 1, infer_float},
    {"Div", 2, 2, 1, 1, infer_arithmetic},
    {"Dropout", 1, 3, 1, 2, infer_dropout},
    {"Equal", 2, 2, 1, 1, infer_equal},
    {"Exp", 1, 1, 1, 1, infer_float},
    {"Floor", 1, 1, 1, 1, infer_float},
    {"Greater", 2, 2, 1, 1, infer_order},
    {"GreaterOrEqual", 2, 2, 1, 1, infer_order},
    {"Identity", 1, 1, 1, 1, infer_identity},
    {"IsInf", 1, 1, 1, 1, infer_float_test},
    {"IsNaN", 1, 1, 1, 1, infer_float_test},
    {"Less", 2, 2, 1, 1, infer_order},
    {"LessOrEqual", 2, 2, 1, 1, infer_order},
    {"Log", 1, 1, 1, 1, infer_float},
    {"Max", 1, kManyInputs, 1, 1, infer_arithmetic},
    {"Mean", 1, kManyInputs, 1, 1, infer_float_arithmetic},
    {"Min", 1, kManyInputs, 1, 1, infer_arithmetic},
    {"Mod", 2, 2, 1, 1, infer_arithmetic},
    {"Mul", 2, 2, 1, 1, infer_arithmetic},
    {"Neg", 1, 1, 1, 1, infer_number},
    {"Not", 1, 1, 1, 1, infer_logic},
    {"Or", 2, 2, 1, 1, infer_logic},
    {"Pow", 2, 2, 1, 1, infer_pow},
    {"Reciprocal", 1, 1, 1, 1, infer_float},
    {"Round", 1, 1, 1, 1, infer_float},
    {"Sign", 1, 1, 1, 1, infer_number},
    {"Sin", 1, 1, 1, 1, infer_float},
    {"Sqrt", 1, 1, 1, 1, infer_float},
    {"Sub", 2, 2, 1, 1, infer_arithmetic},
    {"Sum", 1, kManyInputs, 1, 1, infer_float_arithmetic},
    {"Tan", 1, 1, 1, 1, infer_float},
    {"Where", 3, 3, 1, 1, infer_where},
    {"Xor", 2, 2, 1, 1, infer_logic},
};

}  // namespace

std::span<const OperatorRule> elementwise_rules() { return kRules; }

}  // namespace packlight::graph

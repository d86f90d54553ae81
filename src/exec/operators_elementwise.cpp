#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <limits>

#include "base/fail.h"
#include "exec/operators.h"
#include "graph/weight.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

bool is_float(const at::Tensor& tensor) { return at::isFloatingType(tensor.scalar_type()); }

template <at::Tensor (*function)(const at::Tensor&)>
Outputs unary(const Call& call) {
  return {function(call.inputs[0])};
}

using Binary = at::Tensor(const at::Tensor&, const at::Tensor&);
template <Binary* function>
Outputs binary(const Call& call) {
  return {function(call.inputs[0], call.inputs[1])};
}

// Any number of inputs, from left to right.
template <Binary* function>
Outputs fold(const Call& call) {
  at::Tensor result = call.inputs[0];
  for (size_t i = 1; i < call.inputs.size(); ++i) {
    if (!call.has(i)) fail(ErrorCode::kInvalidArgument, "input {} is absent", i);
    result = function(result, call.inputs[i]);
  }
  return {result};
}

at::Tensor plus(const at::Tensor& a, const at::Tensor& b) { return at::add(a, b); }
at::Tensor minus(const at::Tensor& a, const at::Tensor& b) { return at::sub(a, b); }

// Processors trap where the smallest integer is divided by -1; its quotient wraps round to itself,
// as in numpy. Division by zero is LibTorch's error.
at::Tensor without_minus_one(const at::Tensor& divisor) {
  return at::where(divisor == -1, at::ones_like(divisor), divisor);
}

// ONNX divides integers towards zero.
at::Tensor quotient(const at::Tensor& a, const at::Tensor& b) {
  if (is_float(a)) return at::div(a, b);
  if (b.scalar_type() == at::kByte) return at::div(a, b, "trunc");
  const at::Tensor result = at::div(a, without_minus_one(b), "trunc");
  return at::where(b == -1, at::neg(result), result);
}

// With `fmod` the sign of the dividend (C's fmod), else that of the divisor; floats, too, as later
// opsets allow.
Outputs mod(const Call& call) {
  const at::Tensor &a = call.inputs[0], &b = call.inputs[1];
  const bool fmod = call.node.integer("fmod", 0) != 0;
  const bool traps = !is_float(a) && b.scalar_type() != at::kByte;
  const at::Tensor divisor = traps ? without_minus_one(b) : b;
  return {fmod ? at::fmod(a, divisor) : at::remainder(a, divisor)};
}

Outputs mean(const Call& call) {
  return {at::div(fold<plus>(call)[0], static_cast<double>(call.inputs.size()))};
}

// Float to integer truncates. What does not fit, NaN and infinities become the smallest integer of
// 64 bits for I64 and of 32 bits for the others, whose low bits I16, I8 and U8 take: what numpy
// does on x86, and here on every processor.
at::Tensor convert(const at::Tensor& x, at::ScalarType to) {
  if (!is_float(x) || at::isFloatingType(to) || to == at::kBool) return x.to(to);
  const bool wide = to == at::kLong;
  const double bound = wide ? 0x1p63 : 0x1p31;
  const at::Tensor whole = at::trunc(x);
  const at::Tensor fits = at::logical_and(whole >= -bound, whole < bound);
  return at::where(fits, whole, at::full({}, -bound, whole.options()))
      .to(wide ? at::kLong : at::kInt)
      .to(to);
}

Outputs cast(const Call& call) {
  const auto to = graph::from_onnx_type(call.node.integer("to", 0));
  return {convert(call.inputs[0], graph::to_scalar_type(to))};
}

Outputs cast_like(const Call& call) {
  const at::Tensor& like = call.inputs[1];
  return {convert(call.inputs[0], is_float(like) ? at::kFloat : like.scalar_type())};
}

// The result has the type of the base.
Outputs power(const Call& call) {
  const at::Tensor &base = call.inputs[0], &exponent = call.inputs[1];
  if (is_float(base) || !is_float(exponent))
    return {at::pow(base, exponent.to(base.scalar_type()))};
  return {convert(at::pow(base.to(at::kDouble), exponent.to(at::kDouble)), base.scalar_type())};
}

c10::optional<at::Tensor> bound(const Call& call, size_t input) {
  if (!call.has(input)) return c10::nullopt;
  return call.inputs[input].reshape({});
}

Outputs clip(const Call& call) {
  const auto low = bound(call, 1), high = bound(call, 2);
  if (!low && !high) return {call.inputs[0]};
  return {at::clamp(call.inputs[0], low, high)};
}

Outputs is_inf(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const bool negative = call.node.integer("detect_negative", 1) != 0,
             positive = call.node.integer("detect_positive", 1) != 0;
  if (negative && positive) return {at::isinf(x)};
  if (negative) return {at::isneginf(x)};
  if (positive) return {at::isposinf(x)};
  return {at::zeros_like(x, at::kBool)};
}

Outputs where(const Call& call) {
  return {at::where(call.inputs[0], call.inputs[1], call.inputs[2])};
}

Outputs dropout(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const bool training =
      call.options.training || (call.has(2) && call.inputs[2].reshape({}).item<bool>());
  const double ratio = call.has(1) ? call.inputs[1].reshape({}).item<double>() : 0.5;
  if (!(ratio >= 0 && ratio < 1))
    fail(ErrorCode::kInvalidArgument, "the ratio is {}, not in [0, 1)", ratio);
  if (!training || ratio == 0) return {x, at::ones_like(x, at::kBool)};
  c10::optional<at::Generator> generator;
  if (call.node.attributes.count("seed") != 0)
    generator = at::detail::createCPUGenerator(call.node.integer("seed", 0));
  const at::Tensor mask = at::rand(x.sizes(), generator, at::TensorOptions(at::kFloat)) >= ratio;
  return {at::where(mask, x * (1 / (1 - ratio)), at::zeros({}, x.options())), mask};
}

constexpr OperatorEntry kOperators[] = {
    {"Abs", unary<at::abs>},
    {"Add", binary<plus>},
    {"And", binary<at::logical_and>},
    {"Cast", cast},
    {"CastLike", cast_like},
    {"Ceil", unary<at::ceil>},
    {"Clip", clip},
    {"Cos", unary<at::cos>},
    {"Div", binary<quotient>},
    {"Dropout", dropout},
    {"Equal", binary<at::eq>},
    {"Exp", unary<at::exp>},
    {"Floor", unary<at::floor>},
    {"Greater", binary<at::gt>},
    {"GreaterOrEqual", binary<at::ge>},
    {"Identity", [](const Call& call) { return Outputs{call.inputs[0]}; }},
    {"IsInf", is_inf},
    {"IsNaN", unary<at::isnan>},
    {"Less", binary<at::lt>},
    {"LessOrEqual", binary<at::le>},
    {"Log", unary<at::log>},
    {"Max", fold<at::maximum>},
    {"Mean", mean},
    {"Min", fold<at::minimum>},
    {"Mod", mod},
    {"Mul", binary<at::mul>},
    {"Neg", unary<at::neg>},
    {"Not", unary<at::logical_not>},
    {"Or", binary<at::logical_or>},
    {"Pow", power},
    {"Reciprocal", unary<at::reciprocal>},
    {"Round", unary<at::round>},
    {"Sign", unary<at::sign>},
    {"Sin", unary<at::sin>},
    {"Sqrt", unary<at::sqrt>},
    {"Sub", binary<minus>},
    {"Sum", fold<plus>},
    {"Tan", unary<at::tan>},
    {"Where", where},
    {"Xor", binary<at::logical_xor>},
};

}  // namespace

std::span<const OperatorEntry> elementwise_operators() { return kOperators; }

}  // namespace packlight::exec

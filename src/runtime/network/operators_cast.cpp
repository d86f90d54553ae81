#include <cstring>

#include "operators/element_types.h"
#include "runtime/network/convert.h"
#include "runtime/network/elementwise.h"

namespace packlight::runtime {
namespace {

using codec::DType;

bool cast_shape(const ShapeCall& call) {
  const int64_t to = call.node.integer("to", 0);
  const auto dtype = operators::dtype_of_onnx(to);
  if (!dtype) call.refuse("data type {} is not supported", to);
  call.set(0, *dtype, dense(call, 0).dims);
  return true;
}

// Floats are computed as F32 whatever their file says.
bool cast_like_shape(const ShapeCall& call) {
  const DType like = call.input(1).dtype;
  call.set(0, codec::is_float(like) ? DType::kF32 : like, dense(call, 0).dims);
  return true;
}

template <class Fn>
void for_type(const OperatorCall& call, DType dtype, const Fn& fn) {
  switch (dtype) {
    case DType::kF16:
      return fn(Half{});
    case DType::kBF16:
      return fn(BFloat{});
    case DType::kF64:
      return fn(double{});
    case DType::kBool:
      return fn(Bool{});
    default:
      return for_number_type(call, dtype, fn);
  }
}

void cast(const RunCall& call) {
  for_type(call, call.input(0).dtype, [&](auto from) {
    for_type(call, call.output(0).dtype, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      apply_unary<From, To>(call, [](From x) { return element_of<To>(number_of(x)); });
    });
  });
}

bool dropout_shape(const ShapeCall& call) {
  const Tensor& x = input_of(call, 0, DType::kF32);
  for (size_t i = 1; i <= 2; ++i) {
    if (call.has(i) && dense(call, i).elements() != 1)
      call.refuse("input {} is {}, no single value", i, to_string(call.input(i).dims));
  }
  call.set(0, x.dtype, x.dims);
  call.set(1, DType::kBool, x.dims);
  return true;
}

// Without training: what comes in, and nothing masked.
void dropout(const RunCall& call) {
  const float ratio = call.has(1) ? *input_of(call, 1, DType::kF32).as<float>() : 0.5f;
  if (!(ratio >= 0 && ratio < 1)) call.refuse("the ratio is {}, not in [0, 1)", ratio);
  const bool training = call.has(2) && *input_of(call, 2, DType::kBool).as<uint8_t>() != 0;
  if (training && ratio != 0) call.refuse("training is not supported");
  apply_unary<float, float>(call, [](float x) { return x; });
  if (call.wants(1)) std::fill_n(call.output(1).as<uint8_t>(), call.output(1).elements(), 1);
}

constexpr Operator kOperators[] = {
    {"Cast", cast_shape, cast},
    {"CastLike", cast_like_shape, cast},
    {"Dropout", dropout_shape, dropout, false, true},
};

}  // namespace

std::span<const Operator> cast_operators() { return kOperators; }

}  // namespace packlight::runtime

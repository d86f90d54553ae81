#pragma once

#include <algorithm>
#include <type_traits>

#include "runtime/network/broadcast.h"
#include "runtime/network/operands.h"
#include "runtime/network/typed.h"

// What operators on one element at a time share.
namespace packlight::runtime {

// An input of that type. Errors: InvalidArgument.
inline const Tensor& input_of(const OperatorCall& call, size_t index, codec::DType dtype) {
  const Tensor& tensor = dense(call, index);
  if (tensor.dtype != dtype)
    call.refuse("input {} is {}, not {}", index, codec::info(tensor.dtype).name,
                codec::info(dtype).name);
  return tensor;
}

// shape() of one input, whose shape and type the output has.
inline bool same_shape(const ShapeCall& call) {
  const Tensor& x = dense(call, 0);
  call.set(0, x.dtype, x.dims);
  return true;
}
inline bool float_shape(const ShapeCall& call) {
  input_of(call, 0, codec::DType::kF32);
  return same_shape(call);
}

// Integers wrap round; unsigned arithmetic does so without undefined behaviour.
template <class T>
using Wrapping = std::conditional_t<std::is_floating_point_v<T>, T,
                                    std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>>;

// out[i] = fn(a[i], b[i]) where a and b broadcast to out's shape.
template <class A, class B, class Out, class Fn>
void apply_binary(const RunCall& call, const Tensor& left, const Tensor& right, const Tensor& to,
                  const Fn& fn) {
  // What networks spend time in is worth a vector loop for each way of stepping.
  constexpr bool kFast = std::is_same_v<A, float> && std::is_same_v<Out, float>;
  for_each_binary_run(call, left, right, to,
                      [&](int64_t at, const int64_t* offsets, int64_t n, bool step_a, bool step_b) {
                        const A* x = left.as<A>() + offsets[0];
                        const B* y = right.as<B>() + offsets[1];
                        Out* z = to.as<Out>() + at;
                        if constexpr (!kFast) {
                          for (int64_t i = 0; i < n; ++i)
                            z[i] = fn(x[step_a ? i : 0], y[step_b ? i : 0]);
                        } else if (step_a && step_b) {
                          for (int64_t i = 0; i < n; ++i) z[i] = fn(x[i], y[i]);
                        } else if (step_a) {
                          const B second = *y;
                          for (int64_t i = 0; i < n; ++i) z[i] = fn(x[i], second);
                        } else if (step_b) {
                          const A first = *x;
                          for (int64_t i = 0; i < n; ++i) z[i] = fn(first, y[i]);
                        } else {
                          std::fill(z, z + n, fn(*x, *y));
                        }
                      });
}

// output[i] = fn(input[i]).
template <class In, class Out, class Fn>
void apply_unary(const RunCall& call, const Fn& fn) {
  const In* x = call.input(0).as<In>();
  Out* y = call.output(0).as<Out>();
  call.parallel(call.output(0).elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = fn(x[i]);
  });
}

// run() of a function of floats.
template <float (*function)(float)>
void float_unary(const RunCall& call) {
  apply_unary<float, float>(call, [](float x) { return function(x); });
}

// The same for every type of number: Function::apply<T>(x).
template <class Function>
void number_unary(const RunCall& call) {
  for_number_type(call, call.input(0).dtype, [&](auto zero) {
    using T = decltype(zero);
    apply_unary<T, T>(call, [](T x) { return Function::template apply<T>(x); });
  });
}

}  // namespace packlight::runtime

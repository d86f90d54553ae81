#include <algorithm>
#include <cmath>

#include "runtime/network/broadcast.h"
#include "runtime/network/operator.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

using codec::DType;

// Elements below which a second thread costs more than it saves.
constexpr int64_t kGrain = 16384;

bool same_shape(const ShapeCall& call) {
  call.set(0, call.input(0).dtype, call.input(0).dims);
  return true;
}

bool broadcast_shape(const ShapeCall& call) {
  const Tensor &a = call.input(0), &b = call.input(1);
  if (a.dtype != b.dtype)
    call.refuse("element types {} and {} differ", codec::info(a.dtype).name,
                codec::info(b.dtype).name);
  call.set(0, a.dtype, broadcast(call, a.dims, b.dims));
  return true;
}

template <class In, class Out, class Fn>
void binary(const RunCall& call, const Fn& fn) {
  const Tensor* operands[] = {&call.input(0), &call.input(1)};
  const BroadcastWalk walk = broadcast_walk(call.output(0).dims, operands);
  const In *a = operands[0]->as<In>(), *b = operands[1]->as<In>();
  Out* out = call.output(0).as<Out>();
  const bool step_a = walk.strides[0].back() != 0, step_b = walk.strides[1].back() != 0;
  call.parallel(call.output(0).elements(), kGrain, [&](int64_t begin, int64_t end) {
    for_each_run<2>(walk, begin, end, [&](int64_t at, const int64_t* offsets, int64_t n) {
      const In *x = a + offsets[0], *y = b + offsets[1];
      Out* to = out + at;
      if (step_a && step_b) {
        for (int64_t i = 0; i < n; ++i) to[i] = fn(x[i], y[i]);
      } else if (step_a) {
        const In right = *y;
        for (int64_t i = 0; i < n; ++i) to[i] = fn(x[i], right);
      } else if (step_b) {
        const In left = *x;
        for (int64_t i = 0; i < n; ++i) to[i] = fn(left, y[i]);
      } else {
        std::fill(to, to + n, fn(*x, *y));
      }
    });
  });
}

// fn of two numbers of one type, for every numeric type.
template <class Fn>
void arithmetic(const RunCall& call) {
  for_number_type(call, call.input(0).dtype, [&](auto zero) {
    using T = decltype(zero);
    binary<T, T>(call, [](T x, T y) { return Fn::template apply<T>(x, y); });
  });
}

struct Plus {
  template <class T>
  static T apply(T x, T y) {
    return static_cast<T>(x + y);
  }
};
struct Minus {
  template <class T>
  static T apply(T x, T y) {
    return static_cast<T>(x - y);
  }
};
struct Times {
  template <class T>
  static T apply(T x, T y) {
    return static_cast<T>(x * y);
  }
};
struct Quotient {  // of integers: towards zero; by zero: zero, as there is no better answer and no
                   // trap
  template <class T>
  static T apply(T x, T y) {
    if constexpr (std::is_integral_v<T>)
      return y == 0 ? T{0} : static_cast<T>(x / y);
    else
      return x / y;
  }
};

template <class Fn>
void unary_f32(const RunCall& call, const Fn& fn) {
  const float* x = call.input(0).as<float>();
  float* y = call.output(0).as<float>();
  call.parallel(call.output(0).elements(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = fn(x[i]);
  });
}

void relu(const RunCall& call) {
  if (call.input(0).dtype != DType::kF32)
    call.refuse("elements of {} are not supported", codec::info(call.input(0).dtype).name);
  unary_f32(call, [](float x) { return x > 0 ? x : x < 0 ? 0 : x; });  // NaN stays
}

constexpr Operator kOperators[] = {
    {"Add", broadcast_shape, arithmetic<Plus>, false, true},
    {"Sub", broadcast_shape, arithmetic<Minus>, false, true},
    {"Mul", broadcast_shape, arithmetic<Times>, false, true},
    {"Div", broadcast_shape, arithmetic<Quotient>, false, true},
    {"Relu", same_shape, relu, false, true},
    {"Identity", same_shape, nullptr, true},
};

}  // namespace

std::span<const Operator> elementwise_operators() { return kOperators; }

}  // namespace packlight::runtime

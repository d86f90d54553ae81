#include <cmath>

#include "runtime/network/elementwise.h"

namespace packlight::runtime {
namespace {

using codec::DType;

bool comparison_shape(const ShapeCall& call) {
  require_same_type(call, 0, 1);
  call.set(0, DType::kBool, broadcast(call, call.input(0).dims, call.input(1).dims));
  return true;
}

bool logic_shape(const ShapeCall& call) {
  for (size_t i = 0; i < 2; ++i) input_of(call, i, DType::kBool);
  return comparison_shape(call);
}

bool not_shape(const ShapeCall& call) {
  input_of(call, 0, DType::kBool);
  return same_shape(call);
}

bool test_shape(const ShapeCall& call) {
  call.set(0, DType::kBool, input_of(call, 0, DType::kF32).dims);
  return true;
}

template <class Function, class T>
void compare_as(const RunCall& call) {
  apply_binary<T, T, uint8_t>(call, call.input(0), call.input(1), call.output(0),
                              [](T x, T y) { return static_cast<uint8_t>(Function::apply(x, y)); });
}

template <class Function>
void compare(const RunCall& call) {
  for_number_type(call, call.input(0).dtype,
                  [&](auto zero) { compare_as<Function, decltype(zero)>(call); });
}

// Of bytes, any but zero being true.
template <class Function>
void logic(const RunCall& call) {
  compare_as<Function, uint8_t>(call);
}

struct Equal {
  template <class T>
  static bool apply(T x, T y) {
    return x == y;
  }
};
struct Greater {
  template <class T>
  static bool apply(T x, T y) {
    return x > y;
  }
};
struct GreaterOrEqual {
  template <class T>
  static bool apply(T x, T y) {
    return x >= y;
  }
};
struct Less {
  template <class T>
  static bool apply(T x, T y) {
    return x < y;
  }
};
struct LessOrEqual {
  template <class T>
  static bool apply(T x, T y) {
    return x <= y;
  }
};
struct And {
  static bool apply(uint8_t x, uint8_t y) { return (x != 0) & (y != 0); }
};
struct Or {
  static bool apply(uint8_t x, uint8_t y) { return (x | y) != 0; }
};
struct Xor {
  static bool apply(uint8_t x, uint8_t y) { return (x != 0) != (y != 0); }
};
struct Same {
  static bool apply(uint8_t x, uint8_t y) { return (x != 0) == (y != 0); }
};

void equal(const RunCall& call) {
  return call.input(0).dtype == DType::kBool ? logic<Same>(call) : compare<Equal>(call);
}

void logical_not(const RunCall& call) {
  apply_unary<uint8_t, uint8_t>(call, [](uint8_t x) { return static_cast<uint8_t>(x == 0); });
}

void is_nan(const RunCall& call) {
  apply_unary<float, uint8_t>(call, [](float x) { return static_cast<uint8_t>(x != x); });
}

void is_inf(const RunCall& call) {
  const bool negative = call.node.integer("detect_negative", 1) != 0,
             positive = call.node.integer("detect_positive", 1) != 0;
  apply_unary<float, uint8_t>(call, [=](float x) {
    return static_cast<uint8_t>((positive & (x == HUGE_VALF)) | (negative & (x == -HUGE_VALF)));
  });
}

bool where_shape(const ShapeCall& call) {
  const Tensor& condition = input_of(call, 0, DType::kBool);
  require_same_type(call, 1, 2);
  const Tensor &x = call.input(1), &y = call.input(2);
  call.set(0, x.dtype, broadcast(call, broadcast(call, condition.dims, x.dims), y.dims));
  return true;
}

// fn(step) with a stride of 0 or 1 as a constant, so that its loop is vector code.
template <class Fn>
void with_step(int64_t step, const Fn& fn) {
  if (step == 0)
    fn(std::integral_constant<int64_t, 0>{});
  else
    fn(std::integral_constant<int64_t, 1>{});
}

template <class T>
void choose(const RunCall& call) {
  const Tensor* operands[] = {&call.input(0), &call.input(1), &call.input(2)};
  const BroadcastWalk walk = broadcast_walk(call.output(0).dims, operands);
  const auto step = [&](size_t operand) { return walk.strides[operand].back(); };
  with_step(step(0), [&](auto c) {
    with_step(step(1), [&](auto s) {
      with_step(step(2), [&](auto t) {
        call.parallel(call.output(0).elements(), kElementGrain, [&](int64_t begin, int64_t end) {
          for_each_run(walk, begin, end, [&](int64_t at, const int64_t* offsets, int64_t n) {
            const uint8_t* condition = operands[0]->as<uint8_t>() + offsets[0];
            const T *x = operands[1]->as<T>() + offsets[1], *y = operands[2]->as<T>() + offsets[2];
            T* z = call.output(0).as<T>() + at;
            for (int64_t i = 0; i < n; ++i) z[i] = condition[c * i] != 0 ? x[s * i] : y[t * i];
          });
        });
      });
    });
  });
}

void where(const RunCall& call) {
  for_element_size(call, call.output(0).dtype, [&](auto zero) { choose<decltype(zero)>(call); });
}

constexpr Operator kOperators[] = {
    {"And", logic_shape, logic<And>, false, true},
    {"Equal", comparison_shape, equal},
    {"Greater", comparison_shape, compare<Greater>},
    {"GreaterOrEqual", comparison_shape, compare<GreaterOrEqual>},
    {"IsInf", test_shape, is_inf},
    {"IsNaN", test_shape, is_nan},
    {"Less", comparison_shape, compare<Less>},
    {"LessOrEqual", comparison_shape, compare<LessOrEqual>},
    {"Not", not_shape, logical_not, false, true},
    {"Or", logic_shape, logic<Or>, false, true},
    {"Where", where_shape, where, false, true},
    {"Xor", logic_shape, logic<Xor>, false, true},
};

}  // namespace

std::span<const Operator> logic_operators() { return kOperators; }

}  // namespace packlight::runtime

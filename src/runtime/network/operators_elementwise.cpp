#include <cmath>
#include <cstring>

#include "runtime/network/convert.h"
#include "runtime/network/elementwise.h"

namespace packlight::runtime {
namespace {

using codec::DType;

// Of any number of inputs, all of one type.
bool arithmetic_shape(const ShapeCall& call) {
  std::vector<int64_t> dims = dense(call, 0).dims;
  for (size_t i = 1; i < call.input_count(); ++i) {
    require_same_type(call, 0, i);
    dims = broadcast(call, dims, call.input(i).dims);
  }
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

bool binary_shape(const ShapeCall& call) {
  require_same_type(call, 0, 1);
  call.set(0, call.input(0).dtype, broadcast(call, call.input(0).dims, call.input(1).dims));
  return true;
}

bool float_arithmetic_shape(const ShapeCall& call) {
  input_of(call, 0, DType::kF32);
  return arithmetic_shape(call);
}

struct Plus {
  template <class T>
  static T apply(T x, T y) {
    return static_cast<T>(static_cast<Wrapping<T>>(x) + static_cast<Wrapping<T>>(y));
  }
};
struct Minus {
  template <class T>
  static T apply(T x, T y) {
    return static_cast<T>(static_cast<Wrapping<T>>(x) - static_cast<Wrapping<T>>(y));
  }
};
struct Times {
  template <class T>
  static T apply(T x, T y) {
    return static_cast<T>(static_cast<Wrapping<T>>(x) * static_cast<Wrapping<T>>(y));
  }
};

// Processors trap where integers are divided by zero, and where the smallest is divided by -1.
template <class T>
bool is_minus_one(T x) {
  return std::is_signed_v<T> && x == static_cast<T>(-1);
}

struct Quotient {  // of integers: towards zero; none is zero (see binary_by())
  template <class T>
  static T apply(T x, T y) {
    if constexpr (std::is_floating_point_v<T>)
      return x / y;
    else if (is_minus_one(y))
      return Minus::apply(T{0}, x);
    else
      return static_cast<T>(x / y);
  }
};
struct Remainder {  // with the sign of the dividend
  template <class T>
  static T apply(T x, T y) {
    if constexpr (std::is_floating_point_v<T>)
      return std::fmod(x, y);
    else
      return is_minus_one(y) ? T{0} : static_cast<T>(x % y);
  }
};
struct Modulo {  // with the sign of the divisor
  template <class T>
  static T apply(T x, T y) {
    const T rest = Remainder::apply(x, y);
    return rest != 0 && (rest < 0) != (y < 0) ? static_cast<T>(rest + y) : rest;
  }
};
struct Larger {  // NaN if either is
  template <class T>
  static T apply(T x, T y) {
    return x > y || x != x ? x : y;
  }
};
struct Smaller {
  template <class T>
  static T apply(T x, T y) {
    return x < y || x != x ? x : y;
  }
};

// Function of two tensors of one type, for every type of number.
template <class Function>
void apply_function(const RunCall& call, const Tensor& a, const Tensor& b) {
  for_number_type(call, a.dtype, [&](auto zero) {
    using T = decltype(zero);
    apply_binary<T, T, T>(call, a, b, call.output(0),
                          [](T x, T y) { return Function::template apply<T>(x, y); });
  });
}

template <class Function>
void binary(const RunCall& call) {
  apply_function<Function>(call, call.input(0), call.input(1));
}

// Integers have no quotient by zero.
template <class Function>
void binary_by(const RunCall& call) {
  const Tensor& divisor = call.input(1);
  if (divisor.dtype != DType::kF32 && call.output(0).elements() > 0) {
    for_number_type(call, divisor.dtype, [&](auto zero) {
      const auto* y = divisor.as<decltype(zero)>();
      if (std::find(y, y + divisor.elements(), zero) != y + divisor.elements())
        call.refuse("an integer is divided by zero");
    });
  }
  binary<Function>(call);
}

void mod(const RunCall& call) {
  return call.node.integer("fmod", 0) != 0 ? binary_by<Remainder>(call) : binary_by<Modulo>(call);
}

// Any number of inputs, from left to right.
template <class Function>
void fold(const RunCall& call) {
  const Tensor& out = call.output(0);
  if (call.input_count() == 1) {
    if (out.bytes() > 0) std::memcpy(out.data, call.input(0).data, out.bytes());
    return;
  }
  binary<Function>(call);
  for (size_t i = 2; i < call.input_count(); ++i)
    apply_function<Function>(call, out, call.input(i));
}

void mean(const RunCall& call) {
  fold<Plus>(call);
  float* y = call.output(0).as<float>();
  const auto count = static_cast<float>(call.input_count());
  call.parallel(call.output(0).elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] /= count;
  });
}

// The result has the type of the base.
bool pow_shape(const ShapeCall& call) {
  const Tensor &base = dense(call, 0), &exponent = dense(call, 1);
  call.set(0, base.dtype, broadcast(call, base.dims, exponent.dims));
  return true;
}

// By squaring; the reciprocal of an integer, for negative exponents, is truncated.
template <class T>
T integer_power(T base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 1) return 1;
    return !is_minus_one(base) ? T{0} : exponent % 2 == 0 ? T{1} : base;
  }
  T result = 1;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 != 0) result = Times::apply(result, base);
    base = Times::apply(base, base);
  }
  return result;
}

template <class T, class E>
T power_of(T base, E exponent) {
  if constexpr (std::is_integral_v<E>)
    return integer_power(base, exponent);
  else
    return convert<T>(std::pow(static_cast<E>(base), exponent));
}

// base to the power of an exponent that is converted to E first.
template <class T, class E>
void apply_power(const RunCall& call) {
  const Tensor& given = call.input(1);
  std::vector<E> exponents(given.elements());
  for_number_type(call, given.dtype, [&](auto zero) {
    const auto* from = given.as<decltype(zero)>();
    for (size_t i = 0; i < exponents.size(); ++i) exponents[i] = convert<E>(from[i]);
  });
  const Tensor exponent{given.dtype, given.dims, reinterpret_cast<std::byte*>(exponents.data()),
                        nullptr};
  const auto apply = [&](const auto& fn) {
    apply_binary<T, E, T>(call, call.input(0), exponent, call.output(0), fn);
  };
  constexpr bool kSquares =
      std::is_floating_point_v<T> || std::is_integral_v<E>;    // else it saturates
  if (kSquares && exponents.size() == 1 && exponents[0] == 2)  // as in every decomposed norm
    apply([](T x, E) { return Times::apply(x, x); });
  else
    apply([](T x, E y) { return power_of(x, y); });
}

// Integers by integers exactly; what mixes integers and floats in double.
void power(const RunCall& call) {
  for_number_type(call, call.input(0).dtype, [&](auto zero) {
    using T = decltype(zero);
    using Integers = std::conditional_t<std::is_integral_v<T>, int64_t, double>;
    using Fractions = std::conditional_t<std::is_integral_v<T>, double, float>;
    if (call.input(1).dtype == DType::kF32)
      apply_power<T, Fractions>(call);
    else
      apply_power<T, Integers>(call);
  });
}

struct Magnitude {
  template <class T>
  static T apply(T x) {
    if constexpr (std::is_floating_point_v<T>)
      return std::abs(x);
    else
      return x < 0 ? Minus::apply(T{0}, x) : x;
  }
};
struct Negative {
  template <class T>
  static T apply(T x) {
    if constexpr (std::is_floating_point_v<T>)
      return -x;
    else
      return Minus::apply(T{0}, x);
  }
};
struct Sign {
  template <class T>
  static T apply(T x) {
    return static_cast<T>((x > 0) - (x < 0));
  }
};

float reciprocal(float x) { return 1 / x; }
float square_root(float x) { return std::sqrt(x); }
float logarithm(float x) { return std::log(x); }
float sine(float x) { return std::sin(x); }
float cosine(float x) { return std::cos(x); }
float tangent(float x) { return std::tan(x); }
float floor_of(float x) { return std::floor(x); }
float ceiling(float x) { return std::ceil(x); }
float rounded(float x) { return std::nearbyint(x); }  // half to even

bool identity_shape(const ShapeCall& call) {  // of a packed weight, too
  call.set(0, call.input(0).dtype, call.input(0).dims);
  return true;
}

constexpr Operator kOperators[] = {
    {"Abs", same_shape, number_unary<Magnitude>, false, true},
    {"Add", binary_shape, binary<Plus>, false, true},
    {"Ceil", float_shape, float_unary<ceiling>, false, true},
    {"Cos", float_shape, float_unary<cosine>, false, true},
    {"Div", binary_shape, binary_by<Quotient>, false, true},
    {"Floor", float_shape, float_unary<floor_of>, false, true},
    {.op = "Identity",
     .shape = identity_shape,
     .run = nullptr,
     .is_view = true,
     .takes_packed = true},
    {"Log", float_shape, float_unary<logarithm>, false, true},
    // Not in place: one of the last inputs may be the first one, too.
    {"Max", arithmetic_shape, fold<Larger>},
    {"Mean", float_arithmetic_shape, mean},
    {"Min", arithmetic_shape, fold<Smaller>},
    {"Mod", binary_shape, mod, false, true},
    {"Mul", binary_shape, binary<Times>, false, true},
    {"Neg", same_shape, number_unary<Negative>, false, true},
    {"Pow", pow_shape, power},
    {"Reciprocal", float_shape, float_unary<reciprocal>, false, true},
    {"Round", float_shape, float_unary<rounded>, false, true},
    {"Sign", same_shape, number_unary<Sign>, false, true},
    {"Sin", float_shape, float_unary<sine>, false, true},
    {"Sqrt", float_shape, float_unary<square_root>, false, true},
    {"Sub", binary_shape, binary<Minus>, false, true},
    {"Sum", float_arithmetic_shape, fold<Plus>},
    {"Tan", float_shape, float_unary<tangent>, false, true},
};

}  // namespace

std::span<const Operator> elementwise_operators() { return kOperators; }

}  // namespace packlight::runtime

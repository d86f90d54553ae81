#include <cmath>

#include "runtime/network/elementwise.h"
#include "runtime/network/fast_math.h"

namespace packlight::runtime {
namespace {

using codec::DType;
using kernels::ActivationKind;

float number_of(const OperatorCall& call, std::string_view attribute, double fallback) {
  return static_cast<float>(call.node.number(attribute, fallback));
}

// By the kernels.
void activate(const RunCall& call, const kernels::Activation& activation) {
  const float* x = call.input(0).as<float>();
  float* y = call.output(0).as<float>();
  call.parallel(call.output(0).elements(), kElementGrain, [&](int64_t begin, int64_t end) {
    kernels::active().activate(activation, x + begin, end - begin, y + begin);
  });
}

template <class Fn>
void of_floats(const RunCall& call, const Fn& fn) {
  apply_unary<float, float>(call, fn);
}

struct Relu {
  template <class T>
  static T apply(T x) {
    return x < 0 ? T{0} : x;  // NaN stays
  }
};

void relu(const RunCall& call) {
  if (call.input(0).dtype != DType::kF32) return number_unary<Relu>(call);
  activate(call, {ActivationKind::kClamp, 0, std::numeric_limits<float>::infinity()});
}

void leaky_relu(const RunCall& call) {
  activate(call, {ActivationKind::kLeakyRelu, number_of(call, "alpha", 0.01)});
}

void thresholded_relu(const RunCall& call) {
  of_floats(call,
            [alpha = number_of(call, "alpha", 1)](float x) { return x > alpha || x != x ? x : 0; });
}

bool prelu_shape(const ShapeCall& call) {
  require_same_type(call, 0, 1);
  const Tensor &x = call.input(0), &slope = call.input(1);
  if (broadcast(call, x.dims, slope.dims) != x.dims)
    call.refuse("slope {} does not broadcast to {}", to_string(slope.dims), to_string(x.dims));
  return same_shape(call);
}

void prelu(const RunCall& call) {
  for_number_type(call, call.input(0).dtype, [&](auto zero) {
    using T = decltype(zero);
    apply_binary<T, T, T>(call, call.input(0), call.input(1), call.output(0), [](T x, T slope) {
      const auto low = static_cast<Wrapping<T>>(x) * static_cast<Wrapping<T>>(slope);
      return x < 0 ? static_cast<T>(low) : x;
    });
  });
}

void hard_sigmoid(const RunCall& call) {
  activate(call, {ActivationKind::kHardSigmoid, number_of(call, "alpha", 0.2),
                  number_of(call, "beta", 0.5)});
}

void hard_swish(const RunCall& call) { activate(call, {ActivationKind::kHardSwish}); }
void sigmoid(const RunCall& call) { activate(call, {ActivationKind::kSigmoid}); }
float soft_sign(float x) { return x / (1 + magnitude(x)); }
float soft_plus(float x) { return x > 20 ? x : std::log1p(fast_exp(x)); }

// x tanh(log(1 + e^x)), with e^2x + 2 e^x in place of the hyperbolic function.
float mish(float x) {
  const float e = fast_exp(clamped(x, -104, 20)), n = e * (e + 2);
  return x * (n / (n + 2));
}

bool gelu_shape(const ShapeCall& call) {
  const std::string kind = call.node.text("approximate", "none");
  if (kind != "none" && kind != "tanh") call.refuse("approximate is '{}'", kind);
  return float_shape(call);
}

void gelu(const RunCall& call) {
  if (call.node.text("approximate", "none") == "none") {
    constexpr float kRootOfHalf = 0.707106781186547524f;
    return of_floats(call, [](float x) { return 0.5f * x * (1 + fast_erf(x * kRootOfHalf)); });
  }
  constexpr float kRootOfTwoByPi = 0.797884560802865356f;
  of_floats(call, [](float x) {
    return 0.5f * x * (1 + fast_tanh(kRootOfTwoByPi * (x + 0.044715f * x * x * x)));
  });
}

// positive * x above zero, negative * (e^(x * inner) - 1) below.
void exponential_unit(const RunCall& call, float negative, float positive, float inner) {
  of_floats(call,
            [=](float x) { return select(x > 0, positive * x, negative * fast_expm1(x * inner)); });
}

void elu(const RunCall& call) { exponential_unit(call, number_of(call, "alpha", 1), 1, 1); }

// The defaults are those of the specification: F32 numbers.
void selu(const RunCall& call) {
  const float gamma = number_of(call, "gamma", 1.05070102214813232421875);
  exponential_unit(call, gamma * number_of(call, "alpha", 1.67326319217681884765625), gamma, 1);
}

bool celu_shape(const ShapeCall& call) {
  if (number_of(call, "alpha", 1) == 0) call.refuse("alpha is zero");
  return float_shape(call);
}
void celu(const RunCall& call) {
  const float alpha = number_of(call, "alpha", 1);
  exponential_unit(call, alpha, 1, 1 / alpha);
}

bool clip_shape(const ShapeCall& call) {
  for (size_t i = 1; i <= 2; ++i) {
    if (!call.has(i)) continue;
    require_same_type(call, 0, i);
    if (call.input(i).elements() != 1)
      call.refuse("bound {} is no single number", to_string(call.input(i).dims));
  }
  return same_shape(call);
}

// Where the bounds cross, the upper one holds; a bound of NaN is the result.
void clip(const RunCall& call) {
  for_number_type(call, call.input(0).dtype, [&](auto zero) {
    using T = decltype(zero);
    using Limits = std::numeric_limits<T>;
    const T least = std::is_floating_point_v<T> ? -Limits::infinity() : Limits::min(),
            most = std::is_floating_point_v<T> ? Limits::infinity() : Limits::max();
    const T low = call.has(1) ? *call.input(1).as<T>() : least,
            high = call.has(2) ? *call.input(2).as<T>() : most;
    if (low != low || high != high)
      return apply_unary<T, T>(call, [nan = low != low ? low : high](T) { return nan; });
    if constexpr (std::is_same_v<T, float>)
      return activate(call, {ActivationKind::kClamp, low, high});
    apply_unary<T, T>(call, [low, high](T x) {
      const T raised = x < low ? low : x;
      return raised > high ? high : raised;
    });
  });
}

constexpr Operator kOperators[] = {
    {"Celu", celu_shape, celu, false, true},
    {"Clip", clip_shape, clip, false, true},
    {"Elu", float_shape, elu, false, true},
    {"Erf", float_shape, float_unary<fast_erf>, false, true},
    {"Exp", float_shape, float_unary<fast_exp>, false, true},
    {"Gelu", gelu_shape, gelu, false, true},
    {"HardSigmoid", float_shape, hard_sigmoid, false, true},
    {"HardSwish", float_shape, hard_swish, false, true},
    {"LeakyRelu", float_shape, leaky_relu, false, true},
    {"Mish", float_shape, float_unary<mish>, false, true},
    {"PRelu", prelu_shape, prelu, false, true},
    {"Relu", same_shape, relu, false, true},
    {"Selu", float_shape, selu, false, true},
    {"Sigmoid", float_shape, sigmoid, false, true},
    {"Softplus", float_shape, float_unary<soft_plus>, false, true},
    {"Softsign", float_shape, float_unary<soft_sign>, false, true},
    {"Tanh", float_shape, float_unary<fast_tanh>, false, true},
    {"ThresholdedRelu", float_shape, thresholded_relu, false, true},
};

}  // namespace

std::span<const Operator> activation_operators() { return kOperators; }

}  // namespace packlight::runtime

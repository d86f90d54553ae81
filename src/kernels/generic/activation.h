#pragma once

#include "kernels/generic/elementwise.h"

// Activations over the operations of a vector type V. Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

// y[i] = fn(x[i]), a vector at a time.
template <class V, class Fn>
inline void map_vectors(const float* x, int64_t n, float* y, const Fn& fn) {
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) V::store(y + i, fn(V::load(x + i)));
  if (i < n) {
    const int left = static_cast<int>(n - i);
    V::store_part(y + i, fn(V::load_part(x + i, left)), left);
  }
}

// min(max(x, low), high), NaN for x of NaN.
template <class V>
inline typename V::F clamp_to(typename V::F x, typename V::F low, typename V::F high) {
  return V::min(high, V::max(low, x));
}

template <class V>
inline typename V::F sigmoid_of(typename V::F x) {
  return V::div(V::set1(1), V::add(V::set1(1), exp_of<V>(V::sub(V::zero(), x))));
}

template <class V>
void activate_with(const Activation& it, const float* x, int64_t n, float* y) {
  using F = typename V::F;
  const F a = V::set1(it.a), b = V::set1(it.b), zero = V::zero(), one = V::set1(1);
  switch (it.kind) {
    case ActivationKind::kNone:
      if (y != x) map_vectors<V>(x, n, y, [](F v) { return v; });
      break;
    case ActivationKind::kClamp:
      map_vectors<V>(x, n, y, [=](F v) { return clamp_to<V>(v, a, b); });
      break;
    case ActivationKind::kLeakyRelu:  // of one sign only, the other part is zero
      map_vectors<V>(x, n, y, [=](F v) { return V::fma(a, V::min(zero, v), V::max(zero, v)); });
      break;
    case ActivationKind::kHardSigmoid:
      map_vectors<V>(x, n, y, [=](F v) { return clamp_to<V>(V::fma(a, v, b), zero, one); });
      break;
    case ActivationKind::kHardSwish: {
      const F three = V::set1(3), six = V::set1(6), sixth = V::set1(1.f / 6);
      map_vectors<V>(x, n, y, [=](F v) {
        return V::mul(V::mul(v, sixth), clamp_to<V>(V::add(v, three), zero, six));
      });
      break;
    }
    case ActivationKind::kSigmoid:
      map_vectors<V>(x, n, y, [](F v) { return sigmoid_of<V>(v); });
      break;
    case ActivationKind::kSilu:
      map_vectors<V>(x, n, y, [](F v) { return V::mul(v, sigmoid_of<V>(v)); });
      break;
  }
}

}  // namespace
}  // namespace packlight::kernels

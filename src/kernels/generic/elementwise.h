#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

// Norms, activations and conversions over the operations of a vector type V (avx512/vector.h lists
// them). Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

// e^x. n = round(x / ln 2), e^x = 2^n e^r with |r| <= ln(2)/2; Taylor series of degree 7, whose
// remainder r^8/8! < 6e-9 vanishes beside float rounding (about 2 ulp in all). NaN stays NaN.
template <class V>
inline typename V::F exp_of(typename V::F x) {
  using F = typename V::F;
  // Past these the result is 0 or infinity anyway, and n stays where 2^n can be built.
  x = V::max(V::set1(-104), V::min(V::set1(89), x));
  const F n = V::round(V::mul(x, V::set1(1.44269504f)));
  F r = V::fnma(n, V::set1(0x1.62e43p-1f), x);  // ln 2 in two parts
  r = V::fnma(n, V::set1(-0x1.05c61p-29f), r);
  F sum = V::set1(1.f / 5040);
  sum = V::fma(sum, r, V::set1(1.f / 720));
  sum = V::fma(sum, r, V::set1(1.f / 120));
  sum = V::fma(sum, r, V::set1(1.f / 24));
  sum = V::fma(sum, r, V::set1(1.f / 6));
  sum = V::fma(sum, r, V::set1(0.5f));
  sum = V::fma(sum, r, V::set1(1));
  sum = V::fma(sum, r, V::set1(1));
  return V::scale_by_power(sum, n);
}

// max|x| / 127, or NaN if an element is NaN or infinite.
inline float scale_of(uint32_t magnitude_bits) {
  float largest;
  __builtin_memcpy(&largest, &magnitude_bits, 4);
  return magnitude_bits < 0x7f800000u ? largest / 127 : __builtin_nanf("");
}

template <class V>
inline typename V::F load_up_to(const float* x, int64_t left) {
  return left >= V::kLanes ? V::load(x) : V::load_part(x, static_cast<int>(left));
}

template <class V>
inline void store_up_to(float* x, typename V::F value, int64_t left) {
  if (left >= V::kLanes)
    V::store(x, value);
  else
    V::store_part(x, value, static_cast<int>(left));
}

template <class V>
void quantize_activations_with(const float* x, int64_t cols, int64_t token,
                               const ActivationsInt8& out) {
  constexpr int kBlock = 32, kVectors = kBlock / V::kLanes;
  const int64_t blocks = out.padded_cols / kBlock;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t left = cols - b * kBlock;
    typename V::F values[kVectors];
    typename V::I largest = V::no_magnitude();
    for (int i = 0; i < kVectors; ++i) {
      const int64_t from = i * V::kLanes;
      values[i] = from < left ? load_up_to<V>(x + b * kBlock + from, left - from) : V::zero();
      largest = V::max_magnitude(largest, values[i]);
    }
    const float scale = scale_of(V::reduce_magnitude(largest));
    int8_t* q = out.q + token * out.padded_cols + b * kBlock;
    out.scale[token * blocks + b] = scale;
    if (!(scale > 0)) {
      out.sum[token * blocks + b] = 0;
      __builtin_memset(q, 0, kBlock);
      continue;
    }
    typename V::I codes = V::quantize(q, values[0], V::set1(scale));
    for (int i = 1; i < kVectors; ++i) {
      codes = V::add_codes(codes, V::quantize(q + i * V::kLanes, values[i], V::set1(scale)));
    }
    out.sum[token * blocks + b] = V::sum_codes(codes);
  }
}

template <class V>
float store_int8_with(const float* x, int64_t n, int8_t* out) {
  typename V::I largest = V::no_magnitude();
  for (int64_t i = 0; i < n; i += V::kLanes) {
    largest = V::max_magnitude(largest, load_up_to<V>(x + i, n - i));
  }
  const float scale = scale_of(V::reduce_magnitude(largest));
  if (!(scale > 0)) {
    __builtin_memset(out, 0, static_cast<size_t>(n));
    return scale;
  }
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) V::quantize(out + i, V::load(x + i), V::set1(scale));
  if (i < n) {
    int8_t last[V::kLanes];
    V::quantize(last, V::load_part(x + i, static_cast<int>(n - i)), V::set1(scale));
    __builtin_memcpy(out + i, last, static_cast<size_t>(n - i));
  }
  return scale;
}

template <class V>
void store_f16_with(const float* x, int64_t n, uint16_t* out) {
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) V::store_f16(out + i, V::load(x + i));
  if (i < n) {
    uint16_t last[V::kLanes];
    V::store_f16(last, V::load_part(x + i, static_cast<int>(n - i)));
    __builtin_memcpy(out + i, last, static_cast<size_t>(n - i) * 2);
  }
}

template <class V>
void rms_norm_with(const float* x, const float* weight, int64_t n, float epsilon, float* out) {
  typename V::F squares[2] = {V::zero(), V::zero()};
  for (int64_t i = 0, k = 0; i < n; i += V::kLanes, k ^= 1) {
    const auto v = load_up_to<V>(x + i, n - i);
    squares[k] = V::fma(v, v, squares[k]);
  }
  const float mean = V::reduce_add(V::add(squares[0], squares[1])) / static_cast<float>(n);
  const auto factor = V::set1(1 / __builtin_sqrtf(mean + epsilon));
  for (int64_t i = 0; i < n; i += V::kLanes) {
    const auto v =
        V::mul(V::mul(load_up_to<V>(x + i, n - i), factor), load_up_to<V>(weight + i, n - i));
    store_up_to<V>(out + i, v, n - i);
  }
}

template <class V>
void add_with(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += V::kLanes) {
    store_up_to<V>(y + i, V::add(load_up_to<V>(y + i, n - i), load_up_to<V>(x + i, n - i)), n - i);
  }
}

template <class V>
void silu_mul_with(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; i += V::kLanes) {
    const auto g = load_up_to<V>(gate + i, n - i);
    const auto denominator = V::add(V::set1(1), exp_of<V>(V::sub(V::zero(), g)));
    store_up_to<V>(gate + i, V::mul(V::div(g, denominator), load_up_to<V>(up + i, n - i)), n - i);
  }
}

template <class V>
void rotary_with(float* head, const float* cosine, const float* sine, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; i += V::kLanes) {
    const int64_t left = half - i;
    const auto a = load_up_to<V>(head + i, left), b = load_up_to<V>(head + half + i, left);
    const auto c = load_up_to<V>(cosine + i, left), s = load_up_to<V>(sine + i, left);
    store_up_to<V>(head + i, V::fnma(b, s, V::mul(a, c)), left);
    store_up_to<V>(head + half + i, V::fma(a, s, V::mul(b, c)), left);
  }
}

}  // namespace
}  // namespace packlight::kernels

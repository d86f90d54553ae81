#pragma once

#include <bit>
#include <cstdint>

namespace packlight::runtime {

// Functions of floats without branches and calls, so that a compiler turns loops over them into
// vector code. Errors are in units in the last place (ulp), against the exact value.

// taken ? a : b by bits: both are computed, a compiler need not prove that it may.
inline float select(bool taken, float a, float b) {
  const uint32_t mask = -static_cast<uint32_t>(taken);
  return std::bit_cast<float>((std::bit_cast<uint32_t>(a) & mask) |
                              (std::bit_cast<uint32_t>(b) & ~mask));
}

// NaN stays NaN.
inline float clamped(float x, float low, float high) {
  x = select(x < low, low, x);
  return select(x > high, high, x);
}

inline float magnitude(float x) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0x7fffffffu);
}

inline float with_sign_of(float sign, float x) {
  return std::bit_cast<float>((std::bit_cast<uint32_t>(sign) & 0x80000000u) |
                              std::bit_cast<uint32_t>(x));
}

// e^x, 1 ulp. n = round(x / ln 2), e^x = 2^n e^r with |r| <= ln(2)/2; Taylor series of degree 7,
// whose remainder r^8/8! < 6e-9 vanishes beside rounding. NaN stays NaN.
inline float fast_exp(float x) {
  // Past these the result is 0 or infinity anyway, and n stays where 2^n can be built.
  x = clamped(x, -104, 89);
  constexpr float kRound = 0x1.8p23f;  // its sum with a small number has the integer as low bits
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r =
      (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, as Cephes' expf
  float sum = 1.f / 5040;
  sum = sum * r + 1.f / 720;
  sum = sum * r + 1.f / 120;
  sum = sum * r + 1.f / 24;
  sum = sum * r + 1.f / 6;
  sum = sum * r + 0.5f;
  sum = sum * (r * r) + r + 1;
  // 2^n in two halves, so that each is a normal number though 2^n may not be.
  const int32_t whole =
      static_cast<int32_t>(std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound));
  const int32_t half = whole >> 1;
  const auto power = [](int32_t k) {
    return std::bit_cast<float>((static_cast<uint32_t>(k) + 127u) << 23);
  };
  return sum * power(half) * power(whole - half);
}

// e^x - 1, 4 ulp.
inline float fast_expm1(float x) {
  float sum = 1.f / 5040;
  sum = sum * x + 1.f / 720;
  sum = sum * x + 1.f / 120;
  sum = sum * x + 1.f / 24;
  sum = sum * x + 1.f / 6;
  sum = sum * x + 0.5f;
  sum = sum * (x * x) + x;
  return select(magnitude(x) < 0.35f, sum, fast_exp(x) - 1);
}

inline float fast_sigmoid(float x) { return 1 / (1 + fast_exp(-x)); }

// 2 ulp. Polynomial and split of Cephes' tanhf: https://netlib.org/cephes/single.tgz (tanhf.c)
inline float fast_tanh(float x) {
  const float size = magnitude(x), z = x * x;
  float sum = -5.70498872745e-3f;
  sum = sum * z + 2.06390887954e-2f;
  sum = sum * z - 5.37397155531e-2f;
  sum = sum * z + 1.33314422036e-1f;
  sum = sum * z - 3.33332819422e-1f;
  sum = sum * z * x + x;
  const float far = 1 - 2 / (fast_exp(2 * size) + 1);
  return select(size < 0.625f, sum, with_sign_of(x, far));
}

// 2 ulp. The two polynomials of N. Juffa's erff: https://stackoverflow.com/a/35148199
inline float fast_erf(float x) {
  const float size = clamped(magnitude(x), 0, 4), z = size * size;
  float far =
      (-1.72853470e-5f * size + 3.83197126e-4f) * z + (-3.88396438e-3f * size + 2.42546219e-2f);
  far = far * size - 1.06777877e-1f;
  far = far * size - 6.34846687e-1f;
  far = far * size - 1.28717512e-1f;
  far = 1 - fast_exp(far * size - size);
  float near = -5.96761703e-4f;
  near = near * z + 4.99119423e-3f;
  near = near * z - 2.67681349e-2f;
  near = near * z + 1.12819925e-1f;
  near = near * z - 3.76125336e-1f;
  near = near * z + 1.28379166e-1f;
  return select(size < 0.927734375f, near * x + x, with_sign_of(x, far));
}

}  // namespace packlight::runtime

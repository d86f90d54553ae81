#pragma once

#include <immintrin.h>

#include <cstdint>

// The vector operations that kernels/generic is written with, for AVX-512 (F, BW, VL, DQ).
// avx2/vector.h and neon/vector.h have the same members. Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

struct Avx512 {
  using F = __m512;
  using I = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kTokens =
      8;  // tokens at a time in linear_f32: kTokens * 16 / kLanes accumulators
  static constexpr int kDirectTokens = 8;  // tokens for which linear_f32 keeps codes in registers
  static constexpr int kAttentionRows =
      8;  // rows of A at a time in attention: twice that many accumulators
  static constexpr int kDimUnroll = 4;  // vectors of a head at a time when few queries share it
  static constexpr int kProductRows = 8, kProductVectors = 3;  // of product_f32: 24 sums

  static F zero() { return _mm512_setzero_ps(); }
  static F set1(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load_part(const float* p, int n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static void store_part(float* p, F x, int n) { _mm512_mask_storeu_ps(p, mask(n), x); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
  static F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
  static F min(F a, F b) { return _mm512_min_ps(a, b); }              // b when either is NaN
  static F max(F a, F b) { return _mm512_max_ps(a, b); }              // b when either is NaN
  static F round(F x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static F scale_by_power(F x, F n) { return _mm512_scalef_ps(x, n); }  // x * 2^n, n a whole number
  static float reduce_add(F x) { return _mm512_reduce_add_ps(x); }
  static float reduce_max(F x) { return _mm512_reduce_max_ps(x); }

  // out[i] = the sum of the lanes of the i-th argument
  static void sum4(F a, F b, F c, F d, float* out) {
    const F ab = add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const F cd = add(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const F abcd = add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }

  static F load_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store_f16(uint16_t* p, F x) {
    const __m256i half = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), half);
  }
  static F load_i8(const int8_t* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static F load_u8(const uint8_t* p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }

  static I load_words(const uint8_t* p) { return _mm512_loadu_si512(p); }
  // The nibble at bit kShift of every 32-bit lane, minus 8 or as it is.
  template <int kShift>
  static F nibble(I words) {
    const F values = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(words, kShift), values);
  }
  template <int kShift>
  static F nibble_minus_8(I words) {
    const F values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    return _mm512_permutexvar_ps(_mm512_srli_epi32(words, kShift), values);
  }
  // The signed byte at bit kShift of every 32-bit lane.
  template <int kShift>
  static F byte(I words) {
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words, 24 - kShift), 24));
  }

  // The larger of `largest` and the bits of |x|, which order like the magnitudes with infinity and
  // NaN on top.
  static I max_magnitude(I largest, F x) {
    return _mm512_max_epi32(
        largest, _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
  }
  static I no_magnitude() { return _mm512_setzero_si512(); }
  static uint32_t reduce_magnitude(I x) {
    return static_cast<uint32_t>(_mm512_reduce_max_epi32(x));
  }

  // round_half_even(x / scale) within [-127, 127] to bytes; returns the codes for their sum.
  static I quantize(int8_t* p, F x, F scale) {
    const F quotient = max(set1(-127), min(set1(127), div(x, scale)));
    const I codes = _mm512_cvtps_epi32(quotient);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(codes));
    return codes;
  }
  // Bytes a, b, c, d of every lane, each round_half_even() of a float within [0, 255], flipped by
  // XOR.
  static void store_quads(uint8_t* p, F a, F b, F c, F d, uint32_t flip) {
    const I ab =
                _mm512_or_si512(_mm512_cvtps_epi32(a), _mm512_slli_epi32(_mm512_cvtps_epi32(b), 8)),
            cd =
                _mm512_or_si512(_mm512_cvtps_epi32(c), _mm512_slli_epi32(_mm512_cvtps_epi32(d), 8));
    const I all = _mm512_or_si512(ab, _mm512_slli_epi32(cd, 16));
    _mm512_storeu_si512(p, _mm512_xor_si512(all, _mm512_set1_epi32(static_cast<int>(flip))));
  }
  // The bytes of such floats, lane after lane.
  static void store_bytes(uint8_t* p, F x, uint32_t flip) {
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_xor_si128(bytes, _mm_set1_epi32(static_cast<int>(flip))));
  }
  static I add_codes(I a, I b) { return _mm512_add_epi32(a, b); }
  static int32_t sum_codes(I x) { return _mm512_reduce_add_epi32(x); }

  // x in lanes where first[lane] <= position < end[lane], -infinity in the others.
  static F keep_visible(F x, const int32_t* first, const int32_t* end, int32_t position) {
    const I p = _mm512_set1_epi32(position);
    const __mmask16 visible = _mm512_cmple_epi32_mask(_mm512_loadu_si512(first), p) &
                              _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(end), p);
    return _mm512_mask_blend_ps(visible, set1(-__builtin_inff()), x);
  }

 private:
  static __mmask16 mask(int n) { return static_cast<__mmask16>((1u << n) - 1); }
};

}  // namespace
}  // namespace packlight::kernels

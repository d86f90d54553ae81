#pragma once

#include <immintrin.h>

#include <cstdint>

// The vector operations that kernels/generic is written with, for AVX2 with FMA and F16C;
// avx512/vector.h says what each does. Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

struct Avx2 {
  using F = __m256;
  using I = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kTokens = 6;         // 12 sums, 2 weights and an activation in 16 registers
  static constexpr int kDirectTokens = 4;   // tokens for which linear_f32 keeps codes in registers
  static constexpr int kAttentionRows = 4;  // 8 sums
  static constexpr int kDimUnroll = 2;
  static constexpr int kProductRows = 4, kProductVectors = 3;  // 12 sums

  static F zero() { return _mm256_setzero_ps(); }
  static F set1(float x) { return _mm256_set1_ps(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static F load_part(const float* p, int n) { return _mm256_maskload_ps(p, mask(n)); }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static void store_part(float* p, F x, int n) { _mm256_maskstore_ps(p, mask(n), x); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F round(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // In two halves, so that each power is a normal number though 2^n may not be.
  static F scale_by_power(F x, F n) {
    const I whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return mul(mul(x, power(half)), power(_mm256_sub_epi32(whole, half)));
  }
  static float reduce_add(F x) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float reduce_max(F x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static void sum4(F a, F b, F c, F d, float* out) {
    const F all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }

  static F load_f16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_f16(uint16_t* p, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static F load_i8(const int8_t* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static F load_u8(const uint8_t* p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }

  static I load_words(const uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  template <int kShift>
  static F nibble(I words) {
    return _mm256_cvtepi32_ps(
        _mm256_and_si256(_mm256_srli_epi32(words, kShift), _mm256_set1_epi32(15)));
  }
  template <int kShift>
  static F nibble_minus_8(I words) {
    return sub(nibble<kShift>(words), set1(8));
  }
  template <int kShift>
  static F byte(I words) {
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words, 24 - kShift), 24));
  }

  static I max_magnitude(I largest, F x) {
    return _mm256_max_epi32(
        largest, _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff)));
  }
  static I no_magnitude() { return _mm256_setzero_si256(); }
  static uint32_t reduce_magnitude(I x) {
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return static_cast<uint32_t>(
        _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1))));
  }

  static I quantize(int8_t* p, F x, F scale) {
    const I codes = _mm256_cvtps_epi32(max(set1(-127), min(set1(127), div(x, scale))));
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
    return codes;
  }
  static void store_quads(uint8_t* p, F a, F b, F c, F d, uint32_t flip) {
    const I ab =
                _mm256_or_si256(_mm256_cvtps_epi32(a), _mm256_slli_epi32(_mm256_cvtps_epi32(b), 8)),
            cd =
                _mm256_or_si256(_mm256_cvtps_epi32(c), _mm256_slli_epi32(_mm256_cvtps_epi32(d), 8));
    const I all = _mm256_or_si256(ab, _mm256_slli_epi32(cd, 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm256_xor_si256(all, _mm256_set1_epi32(static_cast<int>(flip))));
  }
  static void store_bytes(uint8_t* p, F x, uint32_t flip) {
    const I codes = _mm256_cvtps_epi32(x);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storel_epi64(
        reinterpret_cast<__m128i*>(p),
        _mm_xor_si128(_mm_packus_epi16(words, words), _mm_set1_epi32(static_cast<int>(flip))));
  }
  static I add_codes(I a, I b) { return _mm256_add_epi32(a, b); }
  static int32_t sum_codes(I x) {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
  }

  static F keep_visible(F x, const int32_t* first, const int32_t* end, int32_t position) {
    const I p = _mm256_set1_epi32(position);
    const I from = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first));
    const I to = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(end));
    const I visible = _mm256_andnot_si256(_mm256_cmpgt_epi32(from, p), _mm256_cmpgt_epi32(to, p));
    return _mm256_blendv_ps(set1(-__builtin_inff()), x, _mm256_castsi256_ps(visible));
  }

 private:
  static I mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static F power(I n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
};

}  // namespace
}  // namespace packlight::kernels

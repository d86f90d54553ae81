#pragma once

#include <arm_neon.h>

#include <cstdint>

// The vector operations that kernels/generic is written with, for NEON; avx512/vector.h says what
// each does. Minimum and maximum give NaN when either is NaN. Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

struct Neon {
  using F = float32x4_t;
  using I = uint32x4_t;
  static constexpr int kLanes = 4;
  static constexpr int kTokens = 5;  // 20 sums, 4 weights in 32 registers
  static constexpr int kDirectTokens = 8;
  static constexpr int kAttentionRows = 8;  // 16 sums
  static constexpr int kDimUnroll = 4;
  static constexpr int kProductRows = 8, kProductVectors = 3;  // 24 sums

  static F zero() { return vdupq_n_f32(0); }
  static F set1(float x) { return vdupq_n_f32(x); }
  static F load(const float* p) { return vld1q_f32(p); }
  static F load_part(const float* p, int n) {
    float part[4] = {};
    __builtin_memcpy(part, p, sizeof(float) * static_cast<unsigned>(n));
    return load(part);
  }
  static void store(float* p, F x) { vst1q_f32(p, x); }
  static void store_part(float* p, F x, int n) {
    float part[4];
    store(part, x);
    __builtin_memcpy(p, part, sizeof(float) * static_cast<unsigned>(n));
  }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F div(F a, F b) { return vdivq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F fnma(F a, F b, F c) { return vfmsq_f32(c, a, b); }
  static F min(F a, F b) { return vminq_f32(a, b); }
  static F max(F a, F b) { return vmaxq_f32(a, b); }
  static F round(F x) { return vrndnq_f32(x); }
  // In two halves, so that each power is a normal number though 2^n may not be.
  static F scale_by_power(F x, F n) {
    const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    return mul(mul(x, power(half)), power(vsubq_s32(whole, half)));
  }
  static float reduce_add(F x) { return vaddvq_f32(x); }
  static float reduce_max(F x) { return vmaxvq_f32(x); }
  static void sum4(F a, F b, F c, F d, float* out) {
    store(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
  }

  static F load_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static void store_f16(uint16_t* p, F x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
  static F load_i8(const int8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, 4);
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
  }
  static F load_u8(const uint8_t* p) {
    uint32_t four;
    __builtin_memcpy(&four, p, 4);
    const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
  }

  static I load_words(const uint8_t* p) { return vreinterpretq_u32_u8(vld1q_u8(p)); }
  template <int kShift>
  static F nibble(I words) {
    if constexpr (kShift > 0) words = vshrq_n_u32(words, kShift);
    return vcvtq_f32_u32(vandq_u32(words, vdupq_n_u32(15)));
  }
  template <int kShift>
  static F nibble_minus_8(I words) {
    return sub(nibble<kShift>(words), set1(8));
  }
  template <int kShift>
  static F byte(I words) {
    const int32x4_t top = vreinterpretq_s32_u32(vshlq_n_u32(words, 24 - kShift));
    return vcvtq_f32_s32(vshrq_n_s32(top, 24));
  }

  static I max_magnitude(I largest, F x) {
    return vmaxq_u32(largest, vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0x7fffffff)));
  }
  static I no_magnitude() { return vdupq_n_u32(0); }
  static uint32_t reduce_magnitude(I x) { return vmaxvq_u32(x); }

  static I quantize(int8_t* p, F x, F scale) {
    const int32x4_t codes = vcvtnq_s32_f32(max(set1(-127), min(set1(127), div(x, scale))));
    const int16x4_t words = vqmovn_s32(codes);
    const int32x2_t bytes = vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(words, words)));
    const int32_t four = vget_lane_s32(bytes, 0);
    __builtin_memcpy(p, &four, 4);
    return vreinterpretq_u32_s32(codes);
  }
  static void store_quads(uint8_t* p, F a, F b, F c, F d, uint32_t flip) {
    const I ab = vorrq_u32(vcvtnq_u32_f32(a), vshlq_n_u32(vcvtnq_u32_f32(b), 8)),
            cd = vorrq_u32(vcvtnq_u32_f32(c), vshlq_n_u32(vcvtnq_u32_f32(d), 8));
    const I all = vorrq_u32(ab, vshlq_n_u32(cd, 16));
    vst1q_u8(p, vreinterpretq_u8_u32(veorq_u32(all, vdupq_n_u32(flip))));
  }
  static void store_bytes(uint8_t* p, F x, uint32_t flip) {
    const uint16x4_t words = vmovn_u32(vcvtnq_u32_f32(x));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0) ^ flip;
    __builtin_memcpy(p, &four, 4);
  }
  static I add_codes(I a, I b) { return vaddq_u32(a, b); }
  static int32_t sum_codes(I x) { return vaddvq_s32(vreinterpretq_s32_u32(x)); }

  static F keep_visible(F x, const int32_t* first, const int32_t* end, int32_t position) {
    const int32x4_t p = vdupq_n_s32(position);
    const uint32x4_t visible =
        vandq_u32(vcleq_s32(vld1q_s32(first), p), vcgtq_s32(vld1q_s32(end), p));
    return vbslq_f32(visible, x, set1(-__builtin_inff()));
  }

 private:
  static F power(int32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
  }
};

}  // namespace
}  // namespace packlight::kernels

#pragma once

#include "kernels/generic/product_int8.h"
#include "kernels/neon/vector.h"

namespace packlight::kernels {
namespace {

// What both dot products of NEON share. Both factors are signed: the codes are stored so.
struct QuadsNeon {
  using I = int32x4_t;
  using Lane = int8x16_t;
  static I load(const uint8_t* p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
  static I load_part(const uint8_t* p, int n) {
    uint8_t part[16] = {};
    __builtin_memcpy(part, p, 4 * static_cast<unsigned>(n));
    return load(part);
  }
  static I set1(int32_t x) { return vdupq_n_s32(x); }
  static float32x4_t to_float(I x) { return vcvtq_f32_s32(x); }
  template <bool kSigned>
  static Lane lanes(I quads) {
    return vreinterpretq_s8_s32(quads);
  }
  template <bool kSigned>
  static Lane one(int32_t word) {
    return vreinterpretq_s8_s32(set1(word));
  }
};

}  // namespace
}  // namespace packlight::kernels

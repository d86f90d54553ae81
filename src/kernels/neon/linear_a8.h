#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

// INT8 activations times INT4 or INT8 tiles with NEON: a register holds 4 columns of 4 rows, and 4
// of them the 16 rows of a tile. `Dot` multiplies a block's codes of 4 rows by its activations.
// Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

constexpr int kSteps = 8;      // quadruples of columns in a block of 32
constexpr int kQuarters = 4;   // registers of 4 rows in a tile
constexpr int kMaxTokens = 4;  // 16 sums, 8 of codes and 2 of activations in 32 registers
constexpr int kPrefetchBytes = 1024;

// Codes of 4 rows of a block; `data` points at the rows' bytes of its first step. INT4 codes are 0
// to 15.
template <TileKind kKind>
inline void load_block(const uint8_t* data, int8x16_t (&codes)[kSteps]) {
  if constexpr (kKind == TileKind::kInt4) {
#pragma GCC unroll 4
    for (int i = 0; i < kSteps / 2; ++i) {
      const uint8x16_t pair = vld1q_u8(data + 64 * i);
      codes[2 * i] = vreinterpretq_s8_u8(vandq_u8(pair, vdupq_n_u8(15)));
      codes[2 * i + 1] = vreinterpretq_s8_u8(vshrq_n_u8(pair, 4));
    }
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kSteps; ++i) codes[i] = vreinterpretq_s8_u8(vld1q_u8(data + 64 * i));
  }
}

enum class Zero { kNone, kEight, kPerGroup };

inline float32x4_t load_scales(const uint16_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

inline int32x4_t load_zeros(const uint8_t* p) {
  uint32_t four;
  __builtin_memcpy(&four, p, 4);
  const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide)));
}

// One row tile times kTokens tokens.
template <class Dot, TileKind kKind, Zero kZero, int kTokens>
void tile_times_tokens(const TileMatrix& w, const ActivationsInt8& x, int64_t tile, int64_t token,
                       float* y, int64_t ldy) {
  constexpr int kBlockBytes = kKind == TileKind::kInt4 ? 256 : 512;
  const int64_t blocks = w.padded_cols / 32;
  const int64_t blocks_per_group = w.group_size % 32 == 0 ? w.group_size / 32 : blocks;
  const uint8_t* data = w.data + tile * w.tile_bytes;
  const uint16_t* scales = w.scales + tile * w.groups * 16;
  const uint8_t* zeros = kZero == Zero::kPerGroup ? w.zeros + tile * w.groups * 16 : nullptr;
  const int8_t* q = x.q + token * x.padded_cols;
  const float* activation_scale = x.scale + token * blocks;
  const int32_t* activation_sum = x.sum + token * blocks;

  float32x4_t sum[kTokens][kQuarters];
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kQuarters; ++r) sum[t][r] = vdupq_n_f32(0);
  }
  int64_t left = blocks_per_group;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int i = 0; i < kBlockBytes; i += 64) __builtin_prefetch(data + kPrefetchBytes + i);
#pragma GCC unroll 4
    for (int r = 0; r < kQuarters; ++r) {
      int8x16_t codes[kSteps];
      load_block<kKind>(data + 16 * r, codes);
      const float32x4_t scale = load_scales(scales + 4 * r);
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        int32x4_t dot = Dot::template block<kKind>(codes, q + t * x.padded_cols + 32 * b);
        const int32x4_t q_sum = vdupq_n_s32(activation_sum[t * blocks + b]);
        if constexpr (kZero == Zero::kEight) dot = vsubq_s32(dot, vshlq_n_s32(q_sum, 3));
        if constexpr (kZero == Zero::kPerGroup)
          dot = vmlsq_s32(dot, q_sum, load_zeros(zeros + 4 * r));
        const float32x4_t both = vmulq_n_f32(scale, activation_scale[t * blocks + b]);
        sum[t][r] = vfmaq_f32(sum[t][r], vcvtq_f32_s32(dot), both);
      }
    }
    data += kBlockBytes;
    if (--left == 0) {
      left = blocks_per_group;
      scales += 16;
      if constexpr (kZero == Zero::kPerGroup) zeros += 16;
    }
  }
  const int64_t rows = w.rows - tile * 16 < 16 ? w.rows - tile * 16 : 16;
  for (int t = 0; t < kTokens; ++t) {
    float out[16];
    for (int r = 0; r < kQuarters; ++r) vst1q_f32(out + 4 * r, sum[t][r]);
    __builtin_memcpy(y + (token + t) * ldy + tile * 16, out,
                     sizeof(float) * static_cast<size_t>(rows));
  }
}

template <class Dot, TileKind kKind, Zero kZero>
void tiles_times_tokens(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
                        float* y, int64_t ldy) {
  for (int64_t tile = tile0; tile < tile1; ++tile) {
    for (int64_t t = 0; t < x.tokens; t += kMaxTokens) {
      switch (x.tokens - t) {
        case 1:
          tile_times_tokens<Dot, kKind, kZero, 1>(w, x, tile, t, y, ldy);
          break;
        case 2:
          tile_times_tokens<Dot, kKind, kZero, 2>(w, x, tile, t, y, ldy);
          break;
        case 3:
          tile_times_tokens<Dot, kKind, kZero, 3>(w, x, tile, t, y, ldy);
          break;
        default:
          tile_times_tokens<Dot, kKind, kZero, kMaxTokens>(w, x, tile, t, y, ldy);
          break;
      }
    }
  }
}

template <class Dot>
void linear_a8_with(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
                    float* y, int64_t ldy) {
  if (w.kind == TileKind::kInt8) {
    tiles_times_tokens<Dot, TileKind::kInt8, Zero::kNone>(w, x, tile0, tile1, y, ldy);
  } else if (w.zeros == nullptr) {
    tiles_times_tokens<Dot, TileKind::kInt4, Zero::kEight>(w, x, tile0, tile1, y, ldy);
  } else {
    tiles_times_tokens<Dot, TileKind::kInt4, Zero::kPerGroup>(w, x, tile0, tile1, y, ldy);
  }
}

}  // namespace
}  // namespace packlight::kernels

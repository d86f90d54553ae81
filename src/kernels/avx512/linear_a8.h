#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/isa.h"

// INT8 activations times INT4 or INT8 tiles with 512-bit vectors: a register holds 4 columns of the
// 16 rows of a tile, so one activation quadruple is broadcast to all rows and no sum across lanes
// is needed. `Dot` is the multiplication that the ISA has. Internal linkage throughout, see
// views.h.

namespace packlight::kernels {
namespace {

constexpr int kSteps = 8;                  // quadruples of columns in a block of 32
constexpr int kMaxTokens = 8;              // accumulators; more would spill
constexpr int64_t kPanelBytes = 40 << 10;  // weights that pass a block of tokens together: about L1
constexpr int kPrefetchBytes = 2048;  // ahead in the weights: DRAM latency at the speed of one core

// Codes of a block of 32 columns, unsigned where Dot wants them so.
template <class Dot, TileKind kKind>
inline void load_block(const uint8_t* data, __m512i (&codes)[kSteps]) {
  if constexpr (kKind == TileKind::kInt4) {
    const __m512i low = _mm512_set1_epi8(0x0f);
    for (int i = 0; i < kSteps / 2; ++i) {
      const __m512i pair = _mm512_loadu_si512(data + 64 * i);
      codes[2 * i] = _mm512_and_si512(pair, low);
      codes[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low);
    }
  } else {
    for (int i = 0; i < kSteps; ++i) codes[i] = Dot::prepare(_mm512_loadu_si512(data + 64 * i));
  }
}

inline __m512i quadruple(const int8_t* q) {
  int32_t word;
  __builtin_memcpy(&word, q, 4);
  return _mm512_set1_epi32(word);
}

// The integer dot product of a block, without the zero point.
template <class Dot, TileKind kKind>
inline __m512i dot_block(const __m512i (&codes)[kSteps], const int8_t* q) {
  __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
  for (int i = 0; i < kSteps; i += 2) {
    if constexpr (kKind == TileKind::kInt4) {
      even = Dot::step4(even, codes[i], quadruple(q + 4 * i));
      odd = Dot::step4(odd, codes[i + 1], quadruple(q + 4 * i + 4));
    } else {
      even = Dot::step8(even, codes[i], quadruple(q + 4 * i));
      odd = Dot::step8(odd, codes[i + 1], quadruple(q + 4 * i + 4));
    }
  }
  return kKind == TileKind::kInt4 ? Dot::finish4(even, odd) : _mm512_add_epi32(even, odd);
}

enum class Zero { kNone, kEight, kOffset, kPerGroup };

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

  __m512 sum[kTokens];
  for (int t = 0; t < kTokens; ++t) sum[t] = _mm512_setzero_ps();
  int64_t left = blocks_per_group;
  for (int64_t b = 0; b < blocks; ++b) {
    __m512i codes[kSteps];
    load_block<Dot, kKind>(data, codes);
    if constexpr (kTokens <= 4) {
      for (int i = 0; i < kBlockBytes; i += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(data + kPrefetchBytes + i), _MM_HINT_T0);
      }
    }
    data += kBlockBytes;
    const __m512 scale =
        _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
    __m512i zero;
    if constexpr (kZero == Zero::kPerGroup) {
      zero = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros)));
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      __m512i dot = dot_block<Dot, kKind>(codes, q + t * x.padded_cols + 32 * b);
      const __m512i q_sum = _mm512_set1_epi32(activation_sum[t * blocks + b]);
      if constexpr (kZero == Zero::kEight) dot = _mm512_sub_epi32(dot, _mm512_slli_epi32(q_sum, 3));
      if constexpr (kZero == Zero::kOffset)
        dot = _mm512_sub_epi32(dot, _mm512_slli_epi32(q_sum, 7));
      if constexpr (kZero == Zero::kPerGroup)
        dot = _mm512_sub_epi32(dot, _mm512_mullo_epi32(q_sum, zero));
      const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(activation_scale[t * blocks + b]));
      sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), both, sum[t]);
    }
    if (--left == 0) {
      left = blocks_per_group;
      scales += 16;
      if constexpr (kZero == Zero::kPerGroup) zeros += 16;
    }
  }
  const int64_t rows = w.rows - tile * 16;
  const auto mask = static_cast<__mmask16>(rows >= 16 ? 0xffff : (1 << rows) - 1);
  for (int t = 0; t < kTokens; ++t) {
    _mm512_mask_storeu_ps(y + (token + t) * ldy + tile * 16, mask, sum[t]);
  }
}

// tokens <= kTokens.
template <class Dot, TileKind kKind, Zero kZero, int kTokens>
void tile_times_up_to(int64_t tokens, const TileMatrix& w, const ActivationsInt8& x, int64_t tile,
                      int64_t token, float* y, int64_t ldy) {
  if (tokens >= kTokens) {
    tile_times_tokens<Dot, kKind, kZero, kTokens>(w, x, tile, token, y, ldy);
  } else if constexpr (kTokens > 1) {
    tile_times_up_to<Dot, kKind, kZero, kTokens - 1>(tokens, w, x, tile, token, y, ldy);
  }
}

template <class Dot, TileKind kKind, Zero kZero>
void tiles_times_tokens(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
                        float* y, int64_t ldy) {
  // As many tiles as half of L1 holds see a block of tokens while its activations are there too.
  int64_t step = kPanelBytes / w.tile_bytes;
  if (step < 1) step = 1;
  for (int64_t first = tile0; first < tile1; first += step) {
    const int64_t last = first + step < tile1 ? first + step : tile1;
    for (int64_t t = 0; t < x.tokens; t += kMaxTokens) {
      for (int64_t tile = first; tile < last; ++tile) {
        tile_times_up_to<Dot, kKind, kZero, kMaxTokens>(x.tokens - t, w, x, tile, t, y, ldy);
      }
    }
  }
}

template <class Dot>
void linear_a8_with(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
                    float* y, int64_t ldy) {
  if (w.kind == TileKind::kInt8) {
    constexpr Zero kZero = Dot::kOffsetInt8 ? Zero::kOffset : Zero::kNone;
    tiles_times_tokens<Dot, TileKind::kInt8, kZero>(w, x, tile0, tile1, y, ldy);
  } else if (w.zeros == nullptr) {
    tiles_times_tokens<Dot, TileKind::kInt4, Zero::kEight>(w, x, tile0, tile1, y, ldy);
  } else {
    tiles_times_tokens<Dot, TileKind::kInt4, Zero::kPerGroup>(w, x, tile0, tile1, y, ldy);
  }
}

}  // namespace
}  // namespace packlight::kernels

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

// INT8 activations times INT4 or INT8 tiles with AVX2: a register holds 4 columns of 8 rows, one
// activation quadruple is broadcast to all rows. vpmaddubsw saturates at 16 bits, so operands are
// kept where it cannot.

namespace packlight::kernels {
namespace {

constexpr int kSteps = 8;             // quadruples of columns in a block of 32
constexpr int kMaxTokens = 4;         // the unpacked codes of half a block take 8 of 16 registers
constexpr int kPrefetchBytes = 2048;  // ahead in the weights: DRAM latency at the speed of one core

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline __m256i quadruple(const int8_t* q) {
  int32_t word;
  __builtin_memcpy(&word, q, 4);
  return _mm256_set1_epi32(word);
}

// Codes of 8 rows of a block; `data` points at the rows' bytes of its first step.
template <TileKind kKind>
inline void load_block(const uint8_t* data, __m256i (&codes)[kSteps]) {
  if constexpr (kKind == TileKind::kInt4) {
    const __m256i low = _mm256_set1_epi8(0x0f);
#pragma GCC unroll 4
    for (int i = 0; i < kSteps / 2; ++i) {
      const __m256i pair = load(data + 64 * i);
      codes[2 * i] = _mm256_and_si256(pair, low);
      codes[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(pair, 4), low);
    }
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kSteps; ++i) codes[i] = load(data + 64 * i);
  }
}

template <TileKind kKind>
inline __m256i dot_block(const __m256i (&codes)[kSteps], const int8_t* q) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int i = 0; i < kSteps; ++i) {
    if constexpr (kKind == TileKind::kInt4) {
      // All eight steps of 2 * 15 * 127 together stay below 2^15.
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes[i], quadruple(q + 4 * i)));
    } else {
      // |code| <= 128 and |q| <= 127: 2 * 128 * 127 < 2^15, once.
      const __m256i signed_q = _mm256_sign_epi8(quadruple(q + 4 * i), codes[i]);
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes[i]), signed_q);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
  }
  return kKind == TileKind::kInt4 ? _mm256_madd_epi16(sum, ones) : sum;
}

enum class Zero { kNone, kEight, kPerGroup };

// Rows [half * 8, half * 8 + 8) of one row tile times kTokens tokens.
template <TileKind kKind, Zero kZero, int kTokens>
void half_times_tokens(const TileMatrix& w, const ActivationsInt8& x, int64_t tile, int half,
                       int64_t token, float* y, int64_t ldy) {
  constexpr int kBlockBytes = kKind == TileKind::kInt4 ? 256 : 512;
  const int64_t blocks = w.padded_cols / 32;
  const int64_t blocks_per_group = w.group_size % 32 == 0 ? w.group_size / 32 : blocks;
  const uint8_t* data = w.data + tile * w.tile_bytes + 32 * half;
  const uint16_t* scales = w.scales + tile * w.groups * 16 + 8 * half;
  const uint8_t* zeros =
      kZero == Zero::kPerGroup ? w.zeros + tile * w.groups * 16 + 8 * half : nullptr;
  const int8_t* q = x.q + token * x.padded_cols;
  const float* activation_scale = x.scale + token * blocks;
  const int32_t* activation_sum = x.sum + token * blocks;

  __m256 sum[kTokens];
  for (int t = 0; t < kTokens; ++t) sum[t] = _mm256_setzero_ps();
  int64_t left = blocks_per_group;
  for (int64_t b = 0; b < blocks; ++b) {
    __m256i codes[kSteps];
    load_block<kKind>(data, codes);
    if (half == 0) {
      for (int i = 0; i < kBlockBytes; i += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(data + kPrefetchBytes + i), _MM_HINT_T0);
      }
    }
    data += kBlockBytes;
    const __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
    __m256i zero;
    if constexpr (kZero == Zero::kPerGroup) {
      zero = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros)));
    }
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      __m256i dot = dot_block<kKind>(codes, q + t * x.padded_cols + 32 * b);
      const __m256i q_sum = _mm256_set1_epi32(activation_sum[t * blocks + b]);
      if constexpr (kZero == Zero::kEight) dot = _mm256_sub_epi32(dot, _mm256_slli_epi32(q_sum, 3));
      if constexpr (kZero == Zero::kPerGroup)
        dot = _mm256_sub_epi32(dot, _mm256_mullo_epi32(q_sum, zero));
      const __m256 both = _mm256_mul_ps(scale, _mm256_set1_ps(activation_scale[t * blocks + b]));
      sum[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), both, sum[t]);
    }
    if (--left == 0) {
      left = blocks_per_group;
      scales += 16;
      if constexpr (kZero == Zero::kPerGroup) zeros += 16;
    }
  }
  const auto rows =
      static_cast<int>(w.rows - tile * 16 - half * 8 < 8 ? w.rows - tile * 16 - half * 8 : 8);
  const __m256i mask =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(rows), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  for (int t = 0; t < kTokens; ++t) {
    _mm256_maskstore_ps(y + (token + t) * ldy + tile * 16 + half * 8, mask, sum[t]);
  }
}

template <TileKind kKind, Zero kZero>
void tiles_times_tokens(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
                        float* y, int64_t ldy) {
  for (int64_t tile = tile0; tile < tile1; ++tile) {
    for (int64_t t = 0; t < x.tokens; t += kMaxTokens) {
      for (int half = 0; half < 2 && tile * 16 + half * 8 < w.rows; ++half) {
        switch (x.tokens - t) {
          case 1:
            half_times_tokens<kKind, kZero, 1>(w, x, tile, half, t, y, ldy);
            break;
          case 2:
            half_times_tokens<kKind, kZero, 2>(w, x, tile, half, t, y, ldy);
            break;
          case 3:
            half_times_tokens<kKind, kZero, 3>(w, x, tile, half, t, y, ldy);
            break;
          default:
            half_times_tokens<kKind, kZero, kMaxTokens>(w, x, tile, half, t, y, ldy);
            break;
        }
      }
    }
  }
}

}  // namespace

namespace avx2 {

void linear_a8(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
               float* y, int64_t ldy) {
  if (w.kind == TileKind::kInt8) {
    tiles_times_tokens<TileKind::kInt8, Zero::kNone>(w, x, tile0, tile1, y, ldy);
  } else if (w.zeros == nullptr) {
    tiles_times_tokens<TileKind::kInt4, Zero::kEight>(w, x, tile0, tile1, y, ldy);
  } else {
    tiles_times_tokens<TileKind::kInt4, Zero::kPerGroup>(w, x, tile0, tile1, y, ldy);
  }
}

}  // namespace avx2
}  // namespace packlight::kernels

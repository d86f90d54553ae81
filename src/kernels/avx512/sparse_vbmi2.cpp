#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

// Pruned INT4 tiles to dense ones: vpexpandb puts a step's values where its mask has bits.

namespace packlight::kernels {
namespace {

constexpr int kSparsePrefetch = 1024;  // bytes ahead in values; masks pass half as fast

inline uint64_t load_mask(const uint8_t* p) {
  uint64_t mask;
  __builtin_memcpy(&mask, p, sizeof mask);
  return mask;
}

// Bytes from `values` where the mask has bits, else 0.
inline __m512i spread(uint64_t mask, const uint8_t* values) {
  __m512i bytes = _mm512_loadu_si512(values);
  asm("" : "+v"(bytes));  // a load by the instruction itself is microcode on Zen 4
  return _mm512_maskz_expand_epi8(mask, bytes);
}

inline __m512i join(__m512i low, __m512i high, __m512i fill) {
  const __m512i pairs = _mm512_ternarylogic_epi64(_mm512_set1_epi8(0x0f), low, high, 0xca);
  return _mm512_xor_si512(pairs, fill);
}

}  // namespace

namespace avx512vbmi2 {

void expand_bitmask(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out) {
  const uint8_t *masks = from.masks, *low = from.low, *high = from.high;
  const __m512i zeros = _mm512_loadu_si512(fill);
  for (int64_t step = 0; step < steps; ++step, masks += 16, out += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(low + kSparsePrefetch), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(masks + kSparsePrefetch / 2), _MM_HINT_T0);
    const uint64_t l = load_mask(masks), h = load_mask(masks + 8);
    _mm512_storeu_si512(out, join(spread(l, low), spread(h, high), zeros));
    low += __builtin_popcountll(l);
    high += __builtin_popcountll(h);
  }
  from = {masks, low, high};
}

// A value goes to the column that its position names: 2 bits of the row's byte, compared in place.
void expand_two_of_four(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out) {
  const __m512i zeros = _mm512_loadu_si512(fill);
  const __m512i row_of_lane = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  const __m512i row = _mm512_add_epi8(
      _mm512_mullo_epi32(row_of_lane, _mm512_set1_epi32(0x04040404)),
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)));
  const __m512i first =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6));
  const __m512i second = _mm512_add_epi8(first, _mm512_set1_epi8(1));
  const __m512i spread_rows = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
  const __m512i column = _mm512_set1_epi32(0x03020100);
  const auto at = [&](__m512i positions, int shift) {
    const __m512i bits = _mm512_set1_epi8(static_cast<char>(3 << shift));
    return _mm512_cmpeq_epi8_mask(_mm512_and_si512(positions, bits),
                                  _mm512_slli_epi16(column, static_cast<unsigned>(shift)));
  };
  const uint8_t* data = from.masks;
  for (int64_t step = 0; step < steps; ++step, data += 48, out += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(data + kSparsePrefetch), _MM_HINT_T0);
    const __m512i values = _mm512_permutexvar_epi64(
        spread_rows,
        _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(data))));
    const __m512i positions = _mm512_shuffle_epi8(
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data + 32))), row);
    const __m512i a = _mm512_shuffle_epi8(values, first), b = _mm512_shuffle_epi8(values, second);
    const __m512i low =
        _mm512_mask_mov_epi8(_mm512_maskz_mov_epi8(at(positions, 0), a), at(positions, 2), b);
    const __m512i high =
        _mm512_mask_mov_epi8(_mm512_maskz_mov_epi8(at(positions, 4), a), at(positions, 6), b);
    _mm512_storeu_si512(out, join(low, high, zeros));
  }
  from.masks = data;
}

}  // namespace avx512vbmi2
}  // namespace packlight::kernels

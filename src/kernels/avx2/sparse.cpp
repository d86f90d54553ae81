#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

// Pruned INT4 tiles to dense ones with byte shuffles. No branch depends on a mask.

namespace packlight::kernels {
namespace {

constexpr int kSparsePrefetch = 1024;  // bytes ahead in values; masks pass half as fast

inline __m128i load_half(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }

inline __m128i two_halves(const void* low, const void* high) {
  return _mm_unpacklo_epi64(load_half(low), load_half(high));
}

// How many bits are set in the bytes of a mask before each byte; `all`: in the whole of it.
inline uint64_t bits_before(uint64_t mask, int64_t& all) {
  mask -= mask >> 1 & 0x5555555555555555;
  mask = (mask & 0x3333333333333333) + (mask >> 2 & 0x3333333333333333);
  mask = (mask + (mask >> 4)) & 0x0f0f0f0f0f0f0f0f;
  const uint64_t up_to = mask * 0x0101010101010101;
  all = static_cast<int64_t>(up_to >> 56);
  return up_to << 8;
}

// Bytes [16 i, 16 i + 16) of a step of one side: values where the mask's bits are, else 0.
template <int i>
inline __m128i sixteen(const uint8_t (*table)[8], const uint8_t* masks, uint64_t before,
                       const uint8_t* values) {
  const uint8_t* first = values + (before >> 16 * i & 255);
  const uint8_t* second = values + (before >> (16 * i + 8) & 255);
  const __m128i control = _mm_add_epi8(
      two_halves(table[masks[2 * i]], table[masks[2 * i + 1]]),
      _mm_set_epi64x(0x0808080808080808, 0));  // the second's values are the upper half
  return _mm_shuffle_epi8(two_halves(first, second), control);
}

inline void store_pairs(__m128i low, __m128i high, const uint8_t* fill, uint8_t* out) {
  const __m128i nibble = _mm_set1_epi8(0x0f);
  const __m128i pairs = _mm_or_si128(_mm_and_si128(nibble, low), _mm_andnot_si128(nibble, high));
  const __m128i filled =
      _mm_xor_si128(pairs, _mm_loadu_si128(reinterpret_cast<const __m128i*>(fill)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), filled);
}

inline uint64_t load_mask(const uint8_t* p) {
  uint64_t mask;
  __builtin_memcpy(&mask, p, sizeof mask);
  return mask;
}

}  // namespace

namespace avx2 {

void expand_bitmask(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out) {
  const uint8_t(*table)[8] = expand_table();
  const uint8_t *masks = from.masks, *low = from.low, *high = from.high;
  for (int64_t step = 0; step < steps; ++step, masks += 16, out += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(low + kSparsePrefetch), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(masks + kSparsePrefetch / 2), _MM_HINT_T0);
    int64_t all_low, all_high;
    const uint64_t l = bits_before(load_mask(masks), all_low);
    const uint64_t h = bits_before(load_mask(masks + 8), all_high);
    store_pairs(sixteen<0>(table, masks, l, low), sixteen<0>(table, masks + 8, h, high), fill, out);
    store_pairs(sixteen<1>(table, masks, l, low), sixteen<1>(table, masks + 8, h, high), fill + 16,
                out + 16);
    store_pairs(sixteen<2>(table, masks, l, low), sixteen<2>(table, masks + 8, h, high), fill + 32,
                out + 32);
    store_pairs(sixteen<3>(table, masks, l, low), sixteen<3>(table, masks + 8, h, high), fill + 48,
                out + 48);
    low += all_low;
    high += all_high;
  }
  from = {masks, low, high};
}

// 8 rows of a step at a time. A value goes to the column that its position names: 2 bits of the
// row's byte, compared in place.
void expand_two_of_four(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out) {
  const __m256i row = _mm256_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4,
                                       5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7);
  const __m256i first = _mm256_add_epi8(row, row);
  const __m256i second = _mm256_add_epi8(first, _mm256_set1_epi8(1));
  const __m256i column = _mm256_set1_epi32(0x03020100), nibble = _mm256_set1_epi8(0x0f);
  const auto at = [&](__m256i positions, int shift) {
    const __m256i bits = _mm256_set1_epi8(static_cast<char>(3 << shift));
    return _mm256_cmpeq_epi8(_mm256_and_si256(positions, bits), _mm256_slli_epi16(column, shift));
  };
  const uint8_t* data = from.masks;
  for (int64_t i = 0; i < 2 * steps; ++i, out += 32) {
    const int half = static_cast<int>(i & 1);
    _mm_prefetch(reinterpret_cast<const char*>(data + kSparsePrefetch), _MM_HINT_T0);
    const __m256i values = _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + 16 * half)));
    const __m256i positions =
        _mm256_shuffle_epi8(_mm256_broadcastq_epi64(load_half(data + 32 + 8 * half)), row);
    const __m256i a = _mm256_shuffle_epi8(values, first), b = _mm256_shuffle_epi8(values, second);
    const __m256i low = _mm256_or_si256(_mm256_and_si256(at(positions, 0), a),
                                        _mm256_and_si256(at(positions, 2), b));
    const __m256i high = _mm256_or_si256(_mm256_and_si256(at(positions, 4), a),
                                         _mm256_and_si256(at(positions, 6), b));
    const __m256i pairs =
        _mm256_or_si256(_mm256_and_si256(nibble, low), _mm256_andnot_si256(nibble, high));
    const __m256i zeros = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(fill + 32 * half));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_xor_si256(pairs, zeros));
    data += 48 * half;
  }
  from.masks = data;
}

}  // namespace avx2
}  // namespace packlight::kernels

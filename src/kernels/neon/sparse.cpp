#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

// Pruned INT4 tiles to dense ones with table look-ups. No branch depends on a mask.

namespace packlight::kernels {
namespace {

constexpr int kSparsePrefetch = 512;  // bytes ahead in values; masks pass half as fast

// How many bits are set in the bytes of a mask before each byte; `all`: in the whole of it.
inline uint64_t bits_before(const uint8_t* mask, int64_t& all) {
  const uint64_t bits = vget_lane_u64(vreinterpret_u64_u8(vcnt_u8(vld1_u8(mask))), 0);
  const uint64_t up_to = bits * 0x0101010101010101;
  all = static_cast<int64_t>(up_to >> 56);
  return up_to << 8;
}

// Bytes [16 i, 16 i + 16) of a step of one side: values where the mask's bits are, else 0.
inline uint8x16_t sixteen(int i, const uint8_t (*table)[8], const uint8_t* masks, uint64_t before,
                          const uint8_t* values) {
  const uint8_t* first = values + (before >> 16 * i & 255);
  const uint8_t* second = values + (before >> (16 * i + 8) & 255);
  const uint8x8_t upper = vadd_u8(vld1_u8(table[masks[2 * i + 1]]), vdup_n_u8(8));
  return vqtbl1q_u8(vcombine_u8(vld1_u8(first), vld1_u8(second)),
                    vcombine_u8(vld1_u8(table[masks[2 * i]]), upper));
}

inline void store_pairs(uint8x16_t low, uint8x16_t high, const uint8_t* fill, uint8_t* out) {
  vst1q_u8(out, veorq_u8(vbslq_u8(vdupq_n_u8(0x0f), low, high), vld1q_u8(fill)));
}

// Where a position of 2 bits, in place, names the byte's column.
template <int kShift>
inline uint8x16_t at(uint8x16_t positions) {
  const uint8x16_t column = vreinterpretq_u8_u32(vdupq_n_u32(0x03020100u << kShift));
  return vceqq_u8(vandq_u8(positions, vdupq_n_u8(3u << kShift)), column);
}

}  // namespace

namespace neon {

void expand_bitmask(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out) {
  const uint8_t(*table)[8] = expand_table();
  const uint8_t *masks = from.masks, *low = from.low, *high = from.high;
  for (int64_t step = 0; step < steps; ++step, masks += 16, out += 64) {
    __builtin_prefetch(low + kSparsePrefetch);
    __builtin_prefetch(masks + kSparsePrefetch / 2);
    int64_t all_low, all_high;
    const uint64_t l = bits_before(masks, all_low), h = bits_before(masks + 8, all_high);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      store_pairs(sixteen(i, table, masks, l, low), sixteen(i, table, masks + 8, h, high),
                  fill + 16 * i, out + 16 * i);
    }
    low += all_low;
    high += all_high;
  }
  from = {masks, low, high};
}

// 4 rows of a step at a time.
void expand_two_of_four(SparseCursor& from, int64_t steps, const uint8_t* fill, uint8_t* out) {
  static constexpr uint8_t kRow[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  const uint8x16_t row = vld1q_u8(kRow), first = vaddq_u8(row, row);
  const uint8x16_t second = vaddq_u8(first, vdupq_n_u8(1));
  const uint8_t* data = from.masks;
  for (int64_t step = 0; step < steps; ++step, data += 48, out += 64) {
    __builtin_prefetch(data + kSparsePrefetch);
    const uint8x16_t every_position = vld1q_u8(data + 32);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const uint8x8_t eight = vld1_u8(data + 8 * i);
      const uint8x16_t values = vcombine_u8(eight, eight);
      const uint8x16_t positions =
          vqtbl1q_u8(every_position, vaddq_u8(row, vdupq_n_u8(static_cast<uint8_t>(4 * i))));
      const uint8x16_t a = vqtbl1q_u8(values, first), b = vqtbl1q_u8(values, second);
      const uint8x16_t low = vorrq_u8(vandq_u8(at<0>(positions), a), vandq_u8(at<2>(positions), b));
      const uint8x16_t high =
          vorrq_u8(vandq_u8(at<4>(positions), a), vandq_u8(at<6>(positions), b));
      store_pairs(low, high, fill + 16 * i, out + 16 * i);
    }
  }
  from.masks = data;
}

}  // namespace neon
}  // namespace packlight::kernels

#include "kernels/neon/linear_a8.h"

namespace packlight::kernels {
namespace {

// smlal: products of signed bytes added to 16 bits, which must not wrap.
struct MultiplyLong {
  template <TileKind kKind>
  static int32x4_t block(const int8x16_t (&codes)[kSteps], const int8_t* q) {
    int32x4_t low = vdupq_n_s32(0),
              high = vdupq_n_s32(0);  // 2 partial sums of rows 0, 1 and of rows 2, 3
    // Eight steps of 15 * 127 stay below 2^15, of 128 * 127 only two.
    constexpr int kChain = kKind == TileKind::kInt4 ? kSteps : 2;
#pragma GCC unroll 4
    for (int i = 0; i < kSteps; i += kChain) {
      int8x16_t x = quadruple(q + 4 * i);
      int16x8_t low16 = vmull_s8(vget_low_s8(codes[i]), vget_low_s8(x)),
                high16 = vmull_high_s8(codes[i], x);
#pragma GCC unroll 8
      for (int k = 1; k < kChain; ++k) {
        x = quadruple(q + 4 * (i + k));
        low16 = vmlal_s8(low16, vget_low_s8(codes[i + k]), vget_low_s8(x));
        high16 = vmlal_high_s8(high16, codes[i + k], x);
      }
      low = vpadalq_s16(low, low16);
      high = vpadalq_s16(high, high16);
    }
    return vpaddq_s32(low, high);
  }

  static int8x16_t quadruple(const int8_t* q) {
    int32_t word;
    __builtin_memcpy(&word, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
  }
};

}  // namespace

namespace neon {

void linear_a8(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
               float* y, int64_t ldy) {
  linear_a8_with<MultiplyLong>(w, x, tile0, tile1, y, ldy);
}

}  // namespace neon
}  // namespace packlight::kernels

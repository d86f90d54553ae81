#include "kernels/neon/linear_a8.h"

namespace packlight::kernels {
namespace {

// sdot: four products of signed bytes added to 32 bits; the activation quadruple is a lane of its
// register.
struct DotProduct {
  template <TileKind kKind>
  static int32x4_t block(const int8x16_t (&codes)[kSteps], const int8_t* q) {
    const int8x16_t left = vld1q_s8(q), right = vld1q_s8(q + 16);
    int32x4_t even = vdotq_laneq_s32(vdupq_n_s32(0), codes[0], left, 0);
    int32x4_t odd = vdotq_laneq_s32(vdupq_n_s32(0), codes[1], left, 1);
    even = vdotq_laneq_s32(even, codes[2], left, 2);
    odd = vdotq_laneq_s32(odd, codes[3], left, 3);
    even = vdotq_laneq_s32(even, codes[4], right, 0);
    odd = vdotq_laneq_s32(odd, codes[5], right, 1);
    even = vdotq_laneq_s32(even, codes[6], right, 2);
    odd = vdotq_laneq_s32(odd, codes[7], right, 3);
    return vaddq_s32(even, odd);
  }
};

}  // namespace

namespace neon_dotprod {

void linear_a8(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
               float* y, int64_t ldy) {
  linear_a8_with<DotProduct>(w, x, tile0, tile1, y, ldy);
}

}  // namespace neon_dotprod
}  // namespace packlight::kernels

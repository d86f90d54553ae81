#include "kernels/neon/product_int8.h"

namespace packlight::kernels {
namespace {

struct WideQuads : QuadsNeon {
  static constexpr int kRows = 4, kVectors = 2;
  template <bool kSignedLanes>
  static I step(I sum, Lane lanes, Lane one) {
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(lanes), vget_low_s8(one))),
                    high = vpaddlq_s16(vmull_high_s8(lanes, one));
    return vaddq_s32(sum, vpaddq_s32(low, high));
  }
};

}  // namespace

namespace neon {

void product_int8(const ProductInt8& it) { product_int8_with<Neon, WideQuads>(it); }

}  // namespace neon
}  // namespace packlight::kernels

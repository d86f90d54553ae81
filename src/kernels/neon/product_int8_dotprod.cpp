#include "kernels/neon/product_int8.h"

namespace packlight::kernels {
namespace {

struct DotQuads : QuadsNeon {
  static constexpr int kRows = 8, kVectors = 2;
  template <bool kSignedLanes>
  static I step(I sum, Lane lanes, Lane one) {
    return vdotq_s32(sum, lanes, one);
  }
};

}  // namespace

namespace neon_dotprod {

void product_int8(const ProductInt8& it) { product_int8_with<Neon, DotQuads>(it); }

}  // namespace neon_dotprod
}  // namespace packlight::kernels

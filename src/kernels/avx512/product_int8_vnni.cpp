#include "kernels/avx512/product_int8.h"

namespace packlight::kernels {
namespace {

// vpdpbusd: four products of unsigned by signed bytes added to 32 bits, never saturating.
struct VnniQuads : Quads512 {
  using Lane = I;
  static constexpr int kRows = 8, kVectors = 3;
  template <bool kSigned>
  static Lane lanes(I quads) {
    return quads;
  }
  template <bool kSigned>
  static Lane one(int32_t word) {
    return set1(word);
  }
  // GCC 12 copies the sum before and after the intrinsic, out of registers in the end: half the
  // speed.
  template <bool kSignedLanes>
  static I step(I sum, Lane lanes, Lane one) {
    if constexpr (kSignedLanes)
      asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(one), "v"(lanes));
    else
      asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(lanes), "v"(one));
    return sum;
  }
};

}  // namespace

namespace avx512vnni {

void product_int8(const ProductInt8& it) { product_int8_with<Avx512, VnniQuads>(it); }

}  // namespace avx512vnni
}  // namespace packlight::kernels

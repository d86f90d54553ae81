#include "kernels/avx512/product_int8.h"

namespace packlight::kernels {
namespace {

// Bytes widened to 16 bits, the even ones apart from the odd: vpmaddubsw would saturate.
struct WideQuads : Quads512 {
  struct Lane {
    I even, odd;
  };
  static constexpr int kRows = 8, kVectors = 2;
  template <bool kSigned>
  static Lane lanes(I quads) {
    if constexpr (kSigned)
      return {_mm512_srai_epi16(_mm512_slli_epi16(quads, 8), 8), _mm512_srai_epi16(quads, 8)};
    return {_mm512_and_si512(quads, _mm512_set1_epi16(0xff)), _mm512_srli_epi16(quads, 8)};
  }
  template <bool kSigned>
  static Lane one(int32_t word) {
    return lanes<kSigned>(set1(word));
  }
  template <bool kSignedLanes>
  static I step(I sum, Lane lanes, Lane one) {
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(lanes.even, one.even));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(lanes.odd, one.odd));
  }
};

}  // namespace

namespace avx512bw {

void product_int8(const ProductInt8& it) { product_int8_with<Avx512, WideQuads>(it); }

}  // namespace avx512bw
}  // namespace packlight::kernels

#include "kernels/generic/product_int8.h"

#include "kernels/avx2/vector.h"

namespace packlight::kernels {
namespace {

// Bytes widened to 16 bits, the even ones apart from the odd: vpmaddubsw would saturate.
struct WideQuads {
  using I = __m256i;
  struct Lane {
    I even, odd;
  };
  static constexpr int kRows = 4, kVectors = 2;
  static I load(const uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I load_part(const uint8_t* p, int n) {
    const I mask =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), mask);
  }
  static I set1(int32_t x) { return _mm256_set1_epi32(x); }
  static __m256 to_float(I x) { return _mm256_cvtepi32_ps(x); }
  template <bool kSigned>
  static Lane lanes(I quads) {
    if constexpr (kSigned)
      return {_mm256_srai_epi16(_mm256_slli_epi16(quads, 8), 8), _mm256_srai_epi16(quads, 8)};
    return {_mm256_and_si256(quads, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(quads, 8)};
  }
  template <bool kSigned>
  static Lane one(int32_t word) {
    return lanes<kSigned>(set1(word));
  }
  template <bool kSignedLanes>
  static I step(I sum, Lane lanes, Lane one) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(lanes.even, one.even));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(lanes.odd, one.odd));
  }
};

}  // namespace

namespace avx2 {

void product_int8(const ProductInt8& it) { product_int8_with<Avx2, WideQuads>(it); }

}  // namespace avx2
}  // namespace packlight::kernels

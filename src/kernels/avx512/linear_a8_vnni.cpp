#include "kernels/avx512/linear_a8.h"

namespace packlight::kernels {
namespace {

// vpdpbusd: four products of unsigned by signed bytes added to 32 bits, never saturating.
struct Vnni {
  static constexpr bool kOffsetInt8 = true;  // INT8 codes are made unsigned by adding 128
  static __m512i prepare(__m512i codes) { return _mm512_xor_si512(codes, _mm512_set1_epi8(-128)); }
  static __m512i step4(__m512i sum, __m512i codes, __m512i q) {
    return _mm512_dpbusd_epi32(sum, codes, q);
  }
  static __m512i step8(__m512i sum, __m512i codes, __m512i q) {
    return _mm512_dpbusd_epi32(sum, codes, q);
  }
  static __m512i finish4(__m512i even, __m512i odd) { return _mm512_add_epi32(even, odd); }
};

}  // namespace

namespace avx512vnni {

void linear_a8(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
               float* y, int64_t ldy) {
  linear_a8_with<Vnni>(w, x, tile0, tile1, y, ldy);
}

}  // namespace avx512vnni
}  // namespace packlight::kernels

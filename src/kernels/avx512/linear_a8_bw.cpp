#include "kernels/avx512/linear_a8.h"

namespace packlight::kernels {
namespace {

// vpmaddubsw: two products of unsigned by signed bytes added to 16 bits, saturating; so the
// operands are kept where it cannot saturate.
struct MaddUbs {
  static constexpr bool kOffsetInt8 = false;
  static __m512i prepare(__m512i codes) { return codes; }
  // Four steps of 2 * 15 * 127 stay below 2^15, and so do the eight that finish4 adds up.
  static __m512i step4(__m512i sum, __m512i codes, __m512i q) {
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(codes, q));
  }
  static __m512i finish4(__m512i even, __m512i odd) {
    return _mm512_madd_epi16(_mm512_add_epi16(even, odd), _mm512_set1_epi16(1));
  }
  // |code| <= 128 and |q| <= 127: 2 * 128 * 127 < 2^15, once.
  static __m512i step8(__m512i sum, __m512i codes, __m512i q) {
    const __mmask64 negative = _mm512_movepi8_mask(codes);
    const __m512i signed_q = _mm512_mask_sub_epi8(q, negative, _mm512_setzero_si512(), q);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(codes), signed_q);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
};

}  // namespace

namespace avx512bw {

void linear_a8(const TileMatrix& w, const ActivationsInt8& x, int64_t tile0, int64_t tile1,
               float* y, int64_t ldy) {
  linear_a8_with<MaddUbs>(w, x, tile0, tile1, y, ldy);
}

}  // namespace avx512bw
}  // namespace packlight::kernels

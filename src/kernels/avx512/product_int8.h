#pragma once

#include "kernels/avx512/vector.h"
#include "kernels/generic/product_int8.h"

namespace packlight::kernels {
namespace {

// What both dot products of AVX-512 share.
struct Quads512 {
  using I = __m512i;
  static I load(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static I load_part(const uint8_t* p, int n) {
    return _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << n) - 1), p);
  }
  static I set1(int32_t x) { return _mm512_set1_epi32(x); }
  static __m512 to_float(I x) { return _mm512_cvtepi32_ps(x); }
};

}  // namespace
}  // namespace packlight::kernels

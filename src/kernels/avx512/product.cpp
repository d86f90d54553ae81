#include "kernels/generic/product.h"

#include "kernels/avx512/vector.h"

namespace packlight::kernels::avx512bw {

void product_f32(const ProductF32& it) { product_f32_with<Avx512>(it); }
void activate(const Activation& it, const float* x, int64_t n, float* y) {
  activate_with<Avx512>(it, x, n, y);
}
void quantize_quads(const float* x, int64_t x_stride, int64_t rows, int64_t n,
                    const CodeRange& range, uint8_t* out) {
  quantize_quads_with<Avx512>(x, x_stride, rows, n, range, 0, out);
}
void quantize_codes(const float* x, int64_t n, const CodeRange& range, uint8_t* out) {
  quantize_codes_with<Avx512>(x, n, range, 0, out);
}
void round_to_codes(const float* x, int64_t n, const CodeRange& range, float* y) {
  round_to_codes_with<Avx512>(x, n, range, y);
}

}  // namespace packlight::kernels::avx512bw

#include "kernels/generic/elementwise.h"

#include "kernels/neon/vector.h"

namespace packlight::kernels::neon {

void quantize_activations(const float* x, int64_t cols, int64_t token, const ActivationsInt8& out) {
  quantize_activations_with<Neon>(x, cols, token, out);
}
void rms_norm(const float* x, const float* weight, int64_t n, float epsilon, float* out) {
  rms_norm_with<Neon>(x, weight, n, epsilon, out);
}
void add(const float* x, int64_t n, float* y) { add_with<Neon>(x, n, y); }
void silu_mul(float* gate, const float* up, int64_t n) { silu_mul_with<Neon>(gate, up, n); }
void rotary(float* head, const float* cosine, const float* sine, int64_t head_dim) {
  rotary_with<Neon>(head, cosine, sine, head_dim);
}
void store_f16(const float* x, int64_t n, uint16_t* out) { store_f16_with<Neon>(x, n, out); }
float store_int8(const float* x, int64_t n, int8_t* out) {
  return store_int8_with<Neon>(x, n, out);
}

}  // namespace packlight::kernels::neon

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "codec/half.h"
#include "codec/tile.h"
#include "kernels/isa.h"

namespace packlight::kernels::scalar {
namespace {

// max|x|, or NaN if any element is NaN or infinite. Bit patterns of magnitudes order like the
// values, NaN last.
float finite_max(const float* x, int64_t n) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < n; ++i)
    bits = std::max(bits, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return bits < 0x7f800000u ? std::bit_cast<float>(bits) : std::numeric_limits<float>::quiet_NaN();
}

// Writes n codes and returns their sum; scale 0 or NaN gives zeros.
int32_t quantize(const float* x, int64_t n, float scale, int8_t* q) {
  if (!(scale > 0)) {
    std::fill_n(q, n, int8_t{0});
    return 0;
  }
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    // A subnormal scale is rounded so coarsely that a quotient can pass 127.
    const float code = std::clamp(std::nearbyint(x[i] / scale), -127.f, 127.f);
    q[i] = static_cast<int8_t>(code);
    sum += q[i];
  }
  return sum;
}

}  // namespace

void quantize_activations(const float* x, int64_t cols, int64_t token, const ActivationsInt8& out) {
  constexpr int64_t kBlock = codec::kColumnAlign;
  const int64_t blocks = out.padded_cols / kBlock;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t width = std::clamp<int64_t>(cols - b * kBlock, 0, kBlock);
    int8_t* q = out.q + token * out.padded_cols + b * kBlock;
    const float scale = finite_max(x + b * kBlock, width) / 127;
    out.scale[token * blocks + b] = scale;
    out.sum[token * blocks + b] = quantize(x + b * kBlock, width, scale, q);
    std::fill_n(q + width, kBlock - width, int8_t{0});
  }
}

void rms_norm(const float* x, const float* weight, int64_t n, float epsilon, float* out) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const auto factor = static_cast<float>(1 / std::sqrt(sum / static_cast<double>(n) + epsilon));
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

void add(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

void silu_mul(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

void rotary(float* head, const float* cosine, const float* sine, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cosine[i] - b * sine[i];
    head[i + half] = b * cosine[i] + a * sine[i];
  }
}

void store_f16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = codec::f32_to_f16(x[i]);
}

float store_int8(const float* x, int64_t n, int8_t* out) {
  const float scale = finite_max(x, n) / 127;
  quantize(x, n, scale, out);
  return scale;
}

}  // namespace packlight::kernels::scalar

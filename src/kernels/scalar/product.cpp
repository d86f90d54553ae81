#include <algorithm>
#include <cmath>

#include "kernels/isa.h"

namespace packlight::kernels::scalar {
namespace {

// NaN stays NaN.
float clamped(float x, float low, float high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

float activated(const Activation& it, float x) {
  switch (it.kind) {
    case ActivationKind::kNone:
      return x;
    case ActivationKind::kClamp:
      return clamped(x, it.a, it.b);
    case ActivationKind::kLeakyRelu:
      return x > 0 ? x : it.a * x;
    case ActivationKind::kHardSigmoid:
      return clamped(it.a * x + it.b, 0, 1);
    case ActivationKind::kHardSwish:
      return x * (1.f / 6) * clamped(x + 3, 0, 6);
    case ActivationKind::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case ActivationKind::kSilu:
      return x / (1 + std::exp(-x));
  }
  return x;
}

float code_of(const CodeRange& range, float x) {
  const auto low = static_cast<float>(range.low), high = static_cast<float>(range.high);
  const float code = std::nearbyint(x / range.scale) + static_cast<float>(range.zero);
  return code > low ? std::min(code, high) : low;
}

}  // namespace

void activate(const Activation& it, const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = activated(it, x[i]);
}

void product_f32(const ProductF32& it) {
  for (int64_t r = 0; r < it.rows; ++r) {
    float* y = it.y + r * it.y_stride;
    if (!it.accumulate) std::fill_n(y, it.columns, it.bias != nullptr ? it.bias[r] : 0.f);
    for (int64_t k = 0; k < it.inner; ++k) {
      const float factor = it.a[r * it.a_row_stride + k * it.a_column_stride];
      const float* b = it.b + it.b_row[k];
      for (int64_t j = 0; j < it.columns; ++j) y[j] += factor * b[j];
    }
    activate(it.activation, y, it.columns, y);
  }
}

void product_int8(const ProductInt8& it) {
  for (int64_t r = 0; r < it.rows; ++r) {
    float* y = it.y + r * it.y_stride;
    for (int64_t j = 0; j < it.columns; ++j) {
      const int64_t weight = it.weights_in_b ? j : r;
      int32_t sum = it.start[weight];
      for (int64_t k = 0; k < it.quads; ++k) {
        const uint8_t *a = it.a + r * it.a_stride + 4 * k, *b = it.b + 4 * (it.b_quad[k] + j);
        const uint8_t *weights = it.weights_in_b ? b : a, *codes = it.weights_in_b ? a : b;
        for (int i = 0; i < 4; ++i) sum += static_cast<int8_t>(weights[i]) * codes[i];
      }
      y[j] =
          static_cast<float>(sum) * it.scale[weight] + (it.bias != nullptr ? it.bias[weight] : 0);
    }
    activate(it.activation, y, it.columns, y);
  }
}

void quantize_quads(const float* x, int64_t x_stride, int64_t rows, int64_t n,
                    const CodeRange& range, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t r = 0; r < 4; ++r) {
      const float factor = range.factors != nullptr && r < rows ? range.factors[r] : 1;
      out[4 * i + r] = static_cast<uint8_t>(r < rows ? code_of(range, x[r * x_stride + i] * factor)
                                                     : static_cast<float>(range.zero));
    }
  }
}

void quantize_codes(const float* x, int64_t n, const CodeRange& range, uint8_t* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float factor = range.factors != nullptr ? range.factors[i] : 1;
    out[i] = static_cast<uint8_t>(code_of(range, x[i] * factor));
  }
}

void round_to_codes(const float* x, int64_t n, const CodeRange& range, float* y) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = (code_of(range, x[i]) - static_cast<float>(range.zero)) * range.scale;
}

}  // namespace packlight::kernels::scalar

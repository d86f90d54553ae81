#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/half.h"
#include "kernels/isa.h"

namespace packlight::kernels::scalar {
namespace {

// Element i of position `position` of keys or values.
float element(const KvView& kv, const void* data, const float* scales, int64_t position,
              int64_t i) {
  const int64_t at = position * kv.position_stride + i;
  if (kv.type == KvType::kF16) return codec::f16_to_f32(static_cast<const uint16_t*>(data)[at]);
  return static_cast<float>(static_cast<const int8_t*>(data)[at]) * scales[position];
}

// One query row against positions [first, end). query and sum: scratch of head_dim.
void attend(const float* q, float* out, int64_t first, int64_t end, const KvView& kv, float scale,
            float* query, float* sum) {
  const int64_t dim = kv.head_dim;
  std::copy_n(q, dim, query);  // q and out may be the same memory
  std::fill_n(sum, dim, 0.f);
  float largest = -std::numeric_limits<float>::infinity(), total = 0;
  for (int64_t p = first; p < end; ++p) {
    float score = 0;
    for (int64_t i = 0; i < dim; ++i) score += query[i] * element(kv, kv.k, kv.k_scale, p, i);
    score *= scale;
    if (score > largest) {
      const float shrink = std::exp(largest - score);
      for (int64_t i = 0; i < dim; ++i) sum[i] *= shrink;
      total *= shrink;
      largest = score;
    }
    // A score of -infinity weighs nothing, even before any other has been seen.
    const float weight =
        score == -std::numeric_limits<float>::infinity() ? 0 : std::exp(score - largest);
    total += weight;
    for (int64_t i = 0; i < dim; ++i) sum[i] += weight * element(kv, kv.v, kv.v_scale, p, i);
  }
  for (int64_t i = 0; i < dim; ++i) out[i] = sum[i] / total;
}

}  // namespace

void attention(const float* q, float* out, const int64_t* q_offset, const int32_t* first,
               const int32_t* end, int64_t n_q, const KvView& kv, float scale, float* scratch) {
  for (int64_t i = 0; i < n_q; ++i) {
    attend(q + q_offset[i], out + q_offset[i], first[i], end[i], kv, scale, scratch,
           scratch + kv.head_dim);
  }
}

}  // namespace packlight::kernels::scalar

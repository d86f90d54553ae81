#include "kernels/generic/attention.h"

#include "kernels/neon/vector.h"

namespace packlight::kernels::neon {

void attention(const float* q, float* out, const int64_t* q_offset, const int32_t* first,
               const int32_t* end, int64_t n_q, const KvView& kv, float scale, float* scratch) {
  attention_with<Neon>(q, out, q_offset, first, end, n_q, kv, scale, scratch);
}

}  // namespace packlight::kernels::neon

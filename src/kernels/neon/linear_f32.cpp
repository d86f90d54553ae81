#include "kernels/generic/linear_f32.h"

#include "kernels/neon/vector.h"

namespace packlight::kernels::neon {

void linear_f32(const TileMatrix& w, const float* x, int64_t tokens, int64_t ldx, int64_t tile0,
                int64_t tile1, float* y, int64_t ldy) {
  linear_f32_with<Neon>(w, x, tokens, ldx, tile0, tile1, y, ldy);
}

}  // namespace packlight::kernels::neon

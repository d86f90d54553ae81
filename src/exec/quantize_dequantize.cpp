#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

constexpr int64_t kBlockColumns = 32;  // kernels::ActivationsInt8
constexpr float kMaxCode = 127;

void round_block(const float* x, int64_t n, float* out) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  const float scale = largest / kMaxCode;
  for (int64_t i = 0; i < n; ++i) {
    if (!finite) {
      out[i] = std::numeric_limits<float>::quiet_NaN();
    } else if (scale == 0) {  // all zero, or too small for a scale
      out[i] = 0;
    } else {
      out[i] = std::nearbyint(x[i] / scale) * scale;
    }
  }
}

}  // namespace

at::Tensor quantize_dequantize_int8(const at::Tensor& x) {
  if (x.scalar_type() != at::kFloat || x.dim() == 0) {
    fail(ErrorCode::kUnsupported,
         "8-bit activations of a tensor that is not F32 of rank 1 or more");
  }
  at::Tensor rounded;
  {
    c10::AutoGradMode no_gradients(false);
    const at::Tensor in = x.detach().contiguous();
    rounded = at::empty_like(in);
    const int64_t cols = in.size(-1), rows = cols == 0 ? 0 : in.numel() / cols;
    const float* src = in.data_ptr<float>();
    float* dst = rounded.data_ptr<float>();
    at::parallel_for(0, rows, 8, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t c = 0; c < cols; c += kBlockColumns) {
          round_block(src + row * cols + c, std::min(kBlockColumns, cols - c),
                      dst + row * cols + c);
        }
      }
    });
  }
  if (!c10::GradMode::is_enabled() || !x.requires_grad()) return rounded;
  return x + (rounded - x).detach();
}

}  // namespace packlight::exec

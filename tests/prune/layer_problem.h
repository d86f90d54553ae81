#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace packlight::prune {

// A layer to prune: weights and the Hessian of correlated inputs. The same every time.
struct LayerProblem {
  at::Tensor w;        // [rows, cols] f32
  at::Tensor hessian;  // [cols, cols] f64
};

inline LayerProblem layer_problem(int64_t rows, int64_t cols, int64_t tokens) {
  at::manual_seed(rows * 1000 + cols);
  const at::Tensor mix = at::randn({cols, cols}, at::kDouble) + 2 * at::eye(cols, at::kDouble);
  const at::Tensor x = at::mm(at::randn({tokens, cols}, at::kDouble), mix);
  return {at::randn({rows, cols}), at::mm(x.t(), x).div(static_cast<double>(tokens))};
}

// argmin of (v - target) H (v - target)^T over the entries of v where `free` is true; the others are those of `fixed`.
// All [cols] f64; by elimination on the normal equations.
inline at::Tensor best_row(const at::Tensor& target, const at::Tensor& hessian, const at::Tensor& free, const at::Tensor& fixed) {
  const at::Tensor index = free.nonzero().squeeze(1);
  if (index.numel() == 0) return fixed;
  // H_free v_free = H_free,: target - H_free,held fixed
  const at::Tensor held = fixed.masked_fill(free, 0);
  const at::Tensor right = at::mv(hessian, target - held).index_select(0, index);
  const at::Tensor matrix = hessian.index_select(0, index).index_select(1, index);
  at::Tensor out = held.clone();
  out.index_copy_(0, index, at::linalg_solve(matrix, right));
  return out;
}

}  // namespace packlight::prune

#pragma once

#include <ATen/core/Tensor.h>

namespace packlight::prune {

// The weights of least error among those that are zero outside a mask:
//   argmin over W with W = W o mask of tr((W - T) H (W - T)^T)
// by conjugate gradients on all rows at once, each row its own least-squares problem, scaled to unit diagonal.
//   target T, start: [rows, cols] f32; hessian H: [cols, cols] f64, positive definite; mask: [rows, cols] bool
// The error never rises above that of `start` o mask. More iterations than cols bring nothing.
// Result: [rows, cols] f32 with exact zeros outside the mask. Interruptible.
// Source: Hestenes and Stiefel 1952; for pruned layers arXiv:2406.07831 (ALPS), section 3.3.
// Cost: 2 rows cols^2 operations an iteration, F32.
at::Tensor fit_masked(const at::Tensor& target, const at::Tensor& hessian, const at::Tensor& mask, const at::Tensor& start,
                      int iterations);

// tr((W - T) H (W - T)^T), F64.
double output_error(const at::Tensor& weight, const at::Tensor& target, const at::Tensor& hessian);

}  // namespace packlight::prune

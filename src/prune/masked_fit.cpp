#include "prune/masked_fit.h"

#include <ATen/ATen.h>

#include "base/interrupt.h"

namespace packlight::prune {
namespace {

// A row whose residual has shrunk to this share (squared) of what it was is done; F32 gives little more.
constexpr double kConverged = 1e-12;

at::Tensor row_sums(const at::Tensor& a, const at::Tensor& b) { return a.mul(b).sum(1, /*keepdim=*/true); }

// a / b, and 0 where b is not above `least`.
at::Tensor safe_ratio(const at::Tensor& a, const at::Tensor& b, const at::Tensor& least) {
  return at::where(b > least, a / b, at::zeros({}, a.options()));
}

}  // namespace

at::Tensor fit_masked(const at::Tensor& target, const at::Tensor& hessian, const at::Tensor& mask, const at::Tensor& start,
                      int iterations) {
  const at::Tensor scale = hessian.diagonal().sqrt();
  const at::Tensor unit = hessian.div(scale.unsqueeze(0)).div(scale.unsqueeze(1)).to(at::kFloat);
  const at::Tensor columns = scale.to(at::kFloat), kept = mask.to(at::kFloat);
  at::Tensor w = start.mul(kept).mul(columns);
  at::Tensor residual = at::mm(target.mul(columns) - w, unit).mul(kept);
  at::Tensor direction = residual, square = row_sums(residual, residual);
  const at::Tensor done = square.mul(kConverged);
  for (int i = 0; i < iterations; ++i) {
    base::check_interrupt();
    const at::Tensor image = at::mm(direction, unit).mul(kept);
    const at::Tensor curvature = row_sums(direction, image);
    const at::Tensor step =
        at::where(square > done, safe_ratio(square, curvature, at::zeros({}, square.options())), at::zeros({}, square.options()));
    w.addcmul_(direction, step);
    residual = residual - image.mul(step);
    const at::Tensor next = row_sums(residual, residual);
    if ((next <= done).all().item<bool>()) break;
    direction = residual + direction.mul(safe_ratio(next, square, done));
    square = next;
  }
  return w.div(columns).mul(kept);
}

double output_error(const at::Tensor& weight, const at::Tensor& target, const at::Tensor& hessian) {
  const at::Tensor difference = weight.to(at::kDouble) - target.to(at::kDouble);
  return at::mm(difference, hessian).mul(difference).sum().item<double>();
}

}  // namespace packlight::prune

#include "prune/admm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/interrupt.h"
#include "prune/masked_fit.h"

namespace packlight::prune {
namespace {

constexpr int kFitIterations = 20;

}  // namespace

PrunedMatrix prune_with_admm(const at::Tensor& w, const HessianFactor& factor, const AdmmOptions& options,
                             const ChooseShare& choose) {
  const at::Tensor scale = factor.hessian.diagonal().sqrt();
  const at::Tensor unit = factor.hessian.div(scale.unsqueeze(0)).div(scale.unsqueeze(1));
  at::Tensor penalised = unit.clone();
  penalised.diagonal().add_(options.penalty);
  const at::Tensor inverse = at::cholesky_inverse(at::linalg_cholesky(penalised));
  const at::Tensor columns = scale.to(at::kFloat);
  const at::Tensor target = w.mul(columns);
  const at::Tensor fixed = at::mm(target, at::mm(unit, inverse).to(at::kFloat));
  const at::Tensor pull = inverse.mul(options.penalty).to(at::kFloat);

  at::Tensor free = target, multipliers = at::zeros_like(target), mask, zeroed;
  for (int i = 0; i < options.iterations; ++i) {
    base::check_interrupt();
    const at::Tensor sum = free + multipliers;
    if (i < options.ramp_iterations) {
      const double t = static_cast<double>(i + 1) / options.ramp_iterations;
      mask = choose(sum.div(columns), 1 - std::pow(1 - t, 3));
    }
    zeroed = sum.mul(mask);
    multipliers = sum - zeroed;
    free = fixed + at::mm(zeroed - multipliers, pull);
  }
  return {fit_masked(w, factor.hessian, mask, zeroed.div(columns), kFitIterations), mask};
}

}  // namespace packlight::prune

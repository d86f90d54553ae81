#include "prune/hessian_factor.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "base/fail.h"

namespace packlight::prune {
namespace {

constexpr double kLeastDamping = 1e-6;  // of the mean diagonal; where none was asked for and it is needed

// Lower triangle L with L L^T = matrix, or nothing when it is not positive definite.
std::optional<at::Tensor> lower_factor(const at::Tensor& matrix) {
  const auto [lower, info] = at::linalg_cholesky_ex(matrix);
  if (info.item<int>() != 0 || !at::isfinite(lower).all().item<bool>()) return std::nullopt;
  return lower;
}

// U with U^T U = inverse: the lower factor of the inverse, turned.
std::optional<HessianFactor> try_factor(const at::Tensor& hessian, double added, double damping) {
  HessianFactor out;
  out.damping = damping;
  out.hessian = hessian.clone();
  out.hessian.diagonal().add_(added);
  const auto lower = lower_factor(out.hessian);
  if (!lower) return std::nullopt;
  out.inverse = at::cholesky_inverse(*lower);
  out.inverse = (out.inverse + out.inverse.t()).mul(0.5);
  const auto inverse_lower = lower_factor(out.inverse);
  if (!inverse_lower) return std::nullopt;
  out.upper = inverse_lower->t().contiguous();
  return out;
}

}  // namespace

HessianFactor factor_hessian(const at::Tensor& hessian, double damping, std::string_view layer) {
  const double mean = hessian.diagonal().mean().item<double>();
  if (mean <= 0) {
    const at::Tensor identity = at::eye(hessian.size(0), at::kDouble);
    return {identity, identity, identity, 1};
  }
  for (double share = damping; share <= std::max(damping, kMostDamping); share = std::max(share, kLeastDamping) * 10) {
    if (auto factor = try_factor(hessian, share * mean, share)) return std::move(*factor);
  }
  fail(ErrorCode::kInvalidArgument,
       "[prune] layer '{}': the Hessian of its inputs is not positive definite even with {} times its mean diagonal added", layer,
       std::max(damping, kMostDamping));
}

}  // namespace packlight::prune

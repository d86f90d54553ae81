#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace packlight::prune {

// What the second-order methods need of a layer's Hessian H = mean over tokens of x x^T. All [cols, cols] f64.
struct HessianFactor {
  at::Tensor hessian;  // H + damping * mean(diag H) * I
  at::Tensor inverse;  // of that
  at::Tensor upper;    // U with U^T U = inverse, upper triangular
  double damping = 0;  // the share of the mean diagonal that was added: as asked for, or more where that was too little
};

// Inputs that were zero on every calibration token have nothing but the damping in their row: their weights cost nothing and go
// first. When all inputs are zero H is taken as the identity: nothing is known, every weight counts by its magnitude.
// H that is not positive definite is damped ten times as much, up to kMostDamping; `damping` of the result then says so.
// hessian: [cols, cols] f64, symmetric, finite; damping >= 0.
// Errors: InvalidArgument naming `layer` when even that is not positive definite.
// Source: arXiv:2301.00774 (damping 0.01 of the mean diagonal). Cost: 2 cols^3 operations.
inline constexpr double kMostDamping = 1.0;
HessianFactor factor_hessian(const at::Tensor& hessian, double damping, std::string_view layer);

}  // namespace packlight::prune

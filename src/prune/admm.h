#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "prune/hessian_factor.h"
#include "prune/obs_update.h"

namespace packlight::prune {

struct AdmmOptions {
  int iterations = 20;       // one matrix product each
  int ramp_iterations = 15;  // the share that goes rises over these along 1 - (1 - t)^3, then the mask stays
  double penalty = 1;        // rho, for a Hessian of unit diagonal
};

// Chooses the weights to keep of a whole matrix when `progress` (0 to 1) of what is to go goes: w [rows, cols] f32 -> bool.
using ChooseShare = std::function<at::Tensor(const at::Tensor& w, double progress)>;

// Mask and weights found together, by the alternating direction method of multipliers on
//   min tr((W - T) H (W - T)^T)  with W = Z, Z having the zeros it must have:
//   W = (T H + rho (Z - U)) (H + rho I)^-1;  Z = (W + U) o mask(W + U);  U += W - Z
// in columns scaled to unit diagonal of H; then fit_masked() on the mask.
// w (the target T): [rows, cols] f32. Deterministic. Interruptible.
// Source: Boža, arXiv:2401.02938; the final fit as in arXiv:2406.07831. Cost: 2 rows cols^2 operations an iteration, F32.
PrunedMatrix prune_with_admm(const at::Tensor& w, const HessianFactor& factor, const AdmmOptions& options,
                             const ChooseShare& choose);

}  // namespace packlight::prune

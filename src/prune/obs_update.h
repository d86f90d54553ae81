#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "prune/hessian_factor.h"
#include "prune/pattern.h"

namespace packlight::prune {

// Chooses the weights to keep of some columns: w [rows, n] f32 as the columns before have left them, first_column -> bool [rows,
// n].
using ChooseMask = std::function<at::Tensor(const at::Tensor& w, int64_t first_column)>;

struct PrunedMatrix {
  at::Tensor weight;  // [rows, cols] f32, exact zeros where `mask` is false
  at::Tensor mask;    // [rows, cols] bool, true: kept
};

// Columns whose mask is chosen at once, before any of them is changed (arXiv:2301.00774, Bs). For N:M it is M.
inline constexpr int64_t kMaskColumns = 128;

// Removes weights column by column from the left; what a removed weight contributed is taken over by the columns to its right:
//   e = w_rc / U_cc;  w_rk -= e U_ck for k > c
// w: [rows, cols] f32. `mask_columns`: how many columns choose() sees at once. Rows are independent of each other once their mask
// is chosen; sums are F64. The result does not depend on the number of threads. Source: arXiv:2301.00774 Alg. 1; differs: U and
// the running weights are F64. Cost: rows cols^2 operations.
PrunedMatrix prune_with_obs_update(const at::Tensor& w, const HessianFactor& factor, int64_t mask_columns,
                                   const ChooseMask& choose);

}  // namespace packlight::prune

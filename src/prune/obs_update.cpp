#include "prune/obs_update.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "base/interrupt.h"

namespace packlight::prune {
namespace {

// Columns whose errors reach the columns to their right as one matrix product.
constexpr int64_t kBlockColumns = 128;

// Columns [first, last) of one row, n = upper's columns: removes the masked ones and hands their contributions on up to column
// `reach`; errors[c] = what column c lost, in units of its pivot.
void update_row(double* w, const bool* keep, const double* upper, int64_t n, int64_t first, int64_t last, int64_t reach,
                double* errors) {
  for (int64_t c = first; c < last; ++c) {
    errors[c] = 0;
    if (keep[c]) continue;
    const double* row = upper + c * n;
    const double e = errors[c] = w[c] / row[c];
    for (int64_t k = c; k < reach; ++k) w[k] -= e * row[k];
    w[c] = 0;
  }
}

}  // namespace

PrunedMatrix prune_with_obs_update(const at::Tensor& w, const HessianFactor& factor, int64_t mask_columns,
                                   const ChooseMask& choose) {
  const int64_t rows = w.size(0), cols = w.size(1);
  at::Tensor work = w.to(at::kDouble).contiguous().clone();
  at::Tensor mask = at::empty({rows, cols}, at::kBool), errors = at::zeros({rows, cols}, at::kDouble);
  const double* upper = factor.upper.data_ptr<double>();
  // Whole masks lie in one block.
  const int64_t block = std::max<int64_t>(1, kBlockColumns / mask_columns) * mask_columns;
  for (int64_t first = 0; first < cols; first += block) {
    base::check_interrupt();
    const int64_t end = std::min(first + block, cols);
    for (int64_t c = first; c < end; c += mask_columns) {
      const int64_t last = std::min(c + mask_columns, end);
      mask.slice(1, c, last).copy_(choose(work.slice(1, c, last).to(at::kFloat), c));
      at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t stop) {
        for (int64_t r = begin; r < stop; ++r) {
          update_row(work.data_ptr<double>() + r * cols, mask.data_ptr<bool>() + r * cols, upper, cols, c, last, end,
                     errors.data_ptr<double>() + r * cols);
        }
      });
    }
    if (end == cols) break;
    work.slice(1, end, cols).sub_(at::mm(errors.slice(1, first, end), factor.upper.slice(0, first, end).slice(1, end, cols)));
  }
  // A weight that was kept may still have become zero in F32; the mask says what may change later.
  return {work.to(at::kFloat).mul(mask), mask};
}

}  // namespace packlight::prune

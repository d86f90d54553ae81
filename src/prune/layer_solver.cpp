#include "prune/layer_solver.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/fail.h"
#include "prune/admm.h"

namespace packlight::prune {
namespace {

class LayerSolver {
 public:
  LayerSolver(const at::Tensor& w, const GroupInputs& inputs, const LayerMethod& method, double ratio, std::string_view layer)
      : w_(w),
        inputs_(inputs),
        method_(method),
        ratio_(ratio),
        layer_(layer),
        scope_(method.scope.value_or(method.criterion->scope())) {
    if (inputs.hessian.defined()) statistics_.mean_square = inputs.hessian.diagonal().contiguous();
    if (inputs.factor) statistics_.inverse_pivots = inputs.factor->inverse.diagonal().contiguous();
  }

  PrunedMatrix solve() {
    switch (method_.repair) {
      case Repair::kNone: {
        const at::Tensor mask = choose(w_, 0, ratio_);
        return {w_.mul(mask), mask};
      }
      case Repair::kObs:
        return with_update();
      case Repair::kAdmm:
        break;
    }
    return prune_with_admm(w_, *inputs_.factor, {}, [&](const at::Tensor& w, double progress) { return ramp(w, progress); });
  }

 private:
  at::Tensor choose(const at::Tensor& w, int64_t first_column, double ratio) const {
    return keep_mask(method_.criterion->scores(w, first_column, statistics_, layer_), method_.pattern, ratio, scope_);
  }

  // What the columns before have left decides; a column's cost is then that of its pivot, since only later ones can make up for
  // it.
  PrunedMatrix with_update() {
    statistics_.inverse_pivots = inputs_.factor->upper.diagonal().square();
    const int64_t columns = method_.pattern.is_structured() ? method_.pattern.of : kMaskColumns;
    return prune_with_obs_update(w_, *inputs_.factor, columns, [&](const at::Tensor& w, int64_t first) {
      // Differences of a running share: they add up to the matrix's.
      const auto gone = [&](int64_t cols) { return std::llround(ratio_ * static_cast<double>(w_.size(0) * cols)); };
      const auto count = static_cast<double>(gone(first + w.size(1)) - gone(first));
      return choose(w, first, count / static_cast<double>(w.numel()));
    });
  }

  // On the way to N:M lie the patterns that keep more of every M.
  at::Tensor ramp(const at::Tensor& w, double progress) const {
    const at::Tensor scores = method_.criterion->scores(w, 0, statistics_, layer_);
    Pattern pattern = method_.pattern;
    pattern.keep = pattern.of - std::llround(static_cast<double>(pattern.of - pattern.keep) * progress);
    return keep_mask(scores, pattern, ratio_ * progress, scope_);
  }

  const at::Tensor& w_;
  const GroupInputs& inputs_;
  const LayerMethod& method_;
  const double ratio_;
  const std::string_view layer_;
  const Scope scope_;
  ColumnStatistics statistics_;
};

}  // namespace

PrunedMatrix prune_matrix(const at::Tensor& w, const GroupInputs& inputs, const LayerMethod& method, double ratio,
                          std::string_view layer) {
  const Pattern& pattern = method.pattern;
  if (pattern.is_structured() && w.size(1) % pattern.of != 0) {
    fail(ErrorCode::kInvalidArgument, "[prune] layer '{}': its {} columns are no multiple of {}, which {} needs", layer,
         w.size(1), pattern.of, to_string(pattern));
  }
  return LayerSolver(w, inputs, method, ratio, layer).solve();
}

}  // namespace packlight::prune

#include <ATen/ATen.h>

#include "prune/criterion.h"

namespace packlight::prune {
namespace {

class ObsSaliency : public Criterion {
 public:
  std::string_view name() const override { return "obs"; }
  bool needs_calibration() const override { return true; }
  Scope scope() const override { return Scope::kMatrix; }
  at::Tensor scores(const at::Tensor& w, int64_t first_column, const ColumnStatistics& statistics,
                    std::string_view) const override {
    const at::Tensor pivots = statistics.inverse_pivots.slice(0, first_column, first_column + w.size(1));
    // The root of the saliency: the same order, and no overflow.
    return w.abs().div(pivots.sqrt().to(at::kFloat));
  }
};

}  // namespace

std::unique_ptr<Criterion> obs_saliency() { return std::make_unique<ObsSaliency>(); }

}  // namespace packlight::prune

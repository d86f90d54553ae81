#include <ATen/ATen.h>

#include "prune/criterion.h"

namespace packlight::prune {
namespace {

class Wanda : public Criterion {
 public:
  std::string_view name() const override { return "wanda"; }
  bool needs_calibration() const override { return true; }
  Scope scope() const override { return Scope::kRow; }
  at::Tensor scores(const at::Tensor& w, int64_t first_column, const ColumnStatistics& statistics,
                    std::string_view) const override {
    // The mean instead of the sum over tokens: one factor for all.
    const at::Tensor norms = statistics.mean_square.slice(0, first_column, first_column + w.size(1)).sqrt();
    return w.abs().mul(norms.to(at::kFloat));
  }
};

}  // namespace

std::unique_ptr<Criterion> wanda() { return std::make_unique<Wanda>(); }

}  // namespace packlight::prune

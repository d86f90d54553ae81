#include <ATen/ATen.h>

#include "prune/criterion.h"

namespace packlight::prune {
namespace {

class Magnitude : public Criterion {
 public:
  std::string_view name() const override { return "magnitude"; }
  bool needs_calibration() const override { return false; }
  Scope scope() const override { return Scope::kMatrix; }
  at::Tensor scores(const at::Tensor& w, int64_t, const ColumnStatistics&, std::string_view) const override { return w.abs(); }
};

}  // namespace

std::unique_ptr<Criterion> magnitude() { return std::make_unique<Magnitude>(); }

}  // namespace packlight::prune

#include <ATen/ATen.h>

#include "base/hash.h"
#include "data/random.h"
#include "prune/criterion.h"

namespace packlight::prune {
namespace {

class RandomChoice : public Criterion {
 public:
  explicit RandomChoice(uint64_t seed) : seed_(seed) {}
  std::string_view name() const override { return "random"; }
  bool needs_calibration() const override { return false; }
  Scope scope() const override { return Scope::kMatrix; }
  at::Tensor scores(const at::Tensor& w, int64_t first_column, const ColumnStatistics&, std::string_view layer) const override {
    data::Random random(seed_, base::hash64(std::as_bytes(std::span(layer.data(), layer.size()))),
                        static_cast<uint64_t>(first_column));
    at::Tensor out = at::empty(w.sizes(), at::kFloat);
    float* data = out.data_ptr<float>();
    for (int64_t i = 0; i < out.numel(); ++i) data[i] = static_cast<float>(random.unit());
    return out;
  }

 private:
  uint64_t seed_;
};

}  // namespace

std::unique_ptr<Criterion> random_choice(uint64_t seed) { return std::make_unique<RandomChoice>(seed); }

}  // namespace packlight::prune

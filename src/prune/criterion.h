#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "prune/pattern.h"

namespace packlight::prune {

// What is known of the columns of a layer when its weights are scored.
struct ColumnStatistics {
  at::Tensor mean_square;     // of the input: [cols] f64; undefined without calibration
  at::Tensor inverse_pivots;  // [H^-1]_cc, or the squared pivots of its Cholesky factor (hessian_factor.h): [cols] f64
};

// Scores weights; the lowest go. One paper each.
class Criterion {
 public:
  virtual ~Criterion() = default;
  virtual std::string_view name() const = 0;
  virtual bool needs_calibration() const = 0;
  // Which weights its paper compares.
  virtual Scope scope() const = 0;
  // w: [rows, cols] f32, columns [first_column, first_column + cols) of the layer `layer` -> scores of the same shape.
  virtual at::Tensor scores(const at::Tensor& w, int64_t first_column, const ColumnStatistics& statistics,
                            std::string_view layer) const = 0;
};

// |w|. Source: Han et al., arXiv:1506.02626.
std::unique_ptr<Criterion> magnitude();
// |w_rc| ||x_c||_2, compared within a row. Source: Sun et al., arXiv:2306.11695.
std::unique_ptr<Criterion> wanda();
// w_rc^2 / [H^-1]_cc, the rise of the layer's squared output error when w_rc goes and the others of its row make up for it as
// well as they can. Source: Hassibi and Stork 1993; Frantar and Alistarh, arXiv:2301.00774.
std::unique_ptr<Criterion> obs_saliency();
// Uniform noise of the seed, the layer's name and the place: the control that every other is compared with.
std::unique_ptr<Criterion> random_choice(uint64_t seed);

// By name: "magnitude", "wanda", "obs", "random". Errors: InvalidArgument naming the known ones.
std::unique_ptr<Criterion> make_criterion(std::string_view name, uint64_t seed);
const std::vector<std::string>& criterion_names();

}  // namespace packlight::prune

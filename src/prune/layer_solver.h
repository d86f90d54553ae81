#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "prune/criterion.h"
#include "prune/hessian_factor.h"
#include "prune/obs_update.h"

namespace packlight::prune {

// What becomes of the weights that stay.
enum class Repair {
  kNone,  // nothing
  kObs,   // they make up for those that go: obs_update.h
  kAdmm,  // mask and weights are found together: admm.h
};

// How the matrices are pruned.
struct LayerMethod {
  Pattern pattern;
  std::shared_ptr<const Criterion> criterion;
  Repair repair = Repair::kNone;
  std::optional<Scope> scope;  // absent: the criterion's own
  double damping = 0.01;       // of the Hessian, in parts of its mean diagonal
  bool needs_hessian() const { return repair != Repair::kNone || criterion->name() == "obs"; }
};

// What calibration tells of a group of layers. Undefined tensors: not known, and then not needed.
struct GroupInputs {
  at::Tensor hessian;                   // [cols, cols] f64
  std::optional<HessianFactor> factor;  // when the method needs it
};

// Prunes one matrix.
//   w: [rows, cols] f32, finite: what the result is to come near to on these inputs; ratio: the share to remove (unstructured)
// Errors: InvalidArgument when the pattern's M does not divide cols (names `layer`).
PrunedMatrix prune_matrix(const at::Tensor& w, const GroupInputs& inputs, const LayerMethod& method, double ratio,
                          std::string_view layer);

}  // namespace packlight::prune

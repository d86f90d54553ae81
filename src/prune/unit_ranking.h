#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "calib/layer_matrix.h"
#include "graph/coupling/coupling.h"
#include "graph/graph.h"

namespace packlight::prune {

// The order in which the units of a group go. A step is one unit or, of query heads, one of each
// head of keys.
struct Ranking {
  std::vector<std::vector<int64_t>> steps;
  std::vector<double> scores;  // beside steps: what that step costs, never less than the one before
};

// Steps by scores of single units, the lowest first; a step of several costs their sum.
Ranking rank_by_scores(const graph::Group& group, const std::vector<double>& scores);

// A layer that reads the units of a group.
struct Consumer {
  graph::NodeId node;
  calib::LayerMatrix matrix;
  at::Tensor columns;  // I64 [units, columns of one unit] of matrix.matrix(weight)[0]
};
std::vector<Consumer> consumers_of(const graph::Graph& graph, const graph::Group& group);

// What calibration says of a consumer's inputs, the columns of its matrix (k of them).
struct InputMoments {
  at::Tensor second;  // F64 [k, k]: mean of x x^T
  at::Tensor mean;    // F64 [k]
};

// What a loss's gradients g at a consumer's outputs say of it (reader_gradients.h).
struct ReaderGradient {
  at::Tensor second;         // F64 [outputs, outputs]: mean over positions of g g^T
  at::Tensor contributions;  // F64 [samples, k]: sum over positions of x_c (g w)_c, which is both
                             // input times its gradient and, summed, weight times its gradient
};

// What a criterion knows of a group.
struct GroupEvidence {
  const graph::Graph& graph;
  const graph::Group& group;
  const std::vector<Consumer>& consumers;
  const std::vector<InputMoments>& moments;      // beside consumers, if asked for
  const std::vector<ReaderGradient>& gradients;  // beside consumers, if asked for
};

// What calibration has to find out.
struct EvidenceNeeds {
  bool moments = false;
  bool gradients = false;
  bool next_tokens = false;  // of the loss of tokens that come next, where there are such; else of
                             // the model's own distribution (curvature_probe())
  bool any() const { return moments || gradients; }
};

// How much it costs to remove units. One paper each.
class UnitCriterion {
 public:
  virtual ~UnitCriterion() = default;
  virtual std::string_view name() const = 0;
  virtual EvidenceNeeds needs() const = 0;
  virtual Ranking rank(const GroupEvidence& evidence) const = 0;
};

// Scores of weights alone: the norm of all slices of a unit, of order 1 or 2, each weight's slices
// relative to their mean over the group's units. Source: Li et al., arXiv:1608.08710 (L1).
std::unique_ptr<UnitCriterion> weight_norm(int order);
// |scale| of the BatchNormalizations that a unit passes. Source: Liu et al., arXiv:1708.06519.
// Errors of rank(): InvalidArgument for a group without one.
std::unique_ptr<UnitCriterion> batch_norm_scale();
// Noise of the seed: the control that every other is compared with.
std::unique_ptr<UnitCriterion> random_units(uint64_t seed);
// ||w_:,c|| ||x_c|| of the layers that read a unit, relative to the largest possible (their sum).
// Source: Sun et al., arXiv:2306.11695, for whole columns.
std::unique_ptr<UnitCriterion> wanda_units();
// ||w_:,c||^2 Var(x_c), likewise. Source: An et al., arXiv:2312.11983 (FLAP).
std::unique_ptr<UnitCriterion> fluctuation();
// The rise of the readers' squared output error, relative to their outputs, when a unit goes and
// all that stay make up for it as well as they can; chosen one after the other, each on what those
// before have left. Source: Hassibi and Stork 1993; for structures Kurtic et al., arXiv:2302.04089
// (ZipLM).
std::unique_ptr<UnitCriterion> reconstruction_error(double damping);
// The same, each output weighed by what it matters to the loss: the readers' output error e is taken
// as e^T G e / 2, G the gradients' covariance; comparable between layers. Source: van der Ouderaa et
// al., arXiv:2312.17244 (LLM Surgeon), for the weights of the readers.
std::unique_ptr<UnitCriterion> loss_curvature(double damping);
// |sum of weight times gradient| of a unit, the mean over samples. Source: Molchanov et al.,
// arXiv:1611.06440, Ma et al., arXiv:2305.11627 (LLM-Pruner).
std::unique_ptr<UnitCriterion> taylor();
// Mean over samples of the square of the gradient by a factor of the unit. Source: Kwon et al.,
// arXiv:2204.09656.
std::unique_ptr<UnitCriterion> fisher();

// By the names of unit_criterion_names(). Errors: InvalidArgument naming the known
// ones.
std::unique_ptr<UnitCriterion> make_unit_criterion(std::string_view name, uint64_t seed);
const std::vector<std::string>& unit_criterion_names();

}  // namespace packlight::prune

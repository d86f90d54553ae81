#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "base/fail.h"
#include "base/interrupt.h"
#include "exec/executor.h"
#include "prune/unit_ranking.h"

namespace packlight::prune {
namespace {

// One reader while units go: its weights as those that stay make up for those that went, and the
// inverse of its Hessian over the columns that stay (rows and columns of the others are zero).
class Reader {
 public:
  Reader(const GroupEvidence& evidence, size_t index, double damping, bool by_loss)
      : columns_(evidence.consumers[index].columns) {
    const Consumer& reader = evidence.consumers[index];
    const at::Tensor dense =
        exec::dense_weight(*evidence.graph.value(reader.matrix.weight_value()).weight);
    weight_ = reader.matrix.matrix(dense)[0].to(at::kDouble);
    at::Tensor hessian = evidence.moments[index].second.clone();
    if (by_loss) {
      weight_ = weigh_outputs(evidence.gradients[index].second, weight_);
      scale_ = 0.5;
    } else {
      const double power = (weight_.matmul(hessian) * weight_).sum().item<double>();
      scale_ = power > 0 ? 1 / power : 0;
    }
    const double mean = hessian.diagonal().mean().item<double>();
    hessian.diagonal().add_(mean > 0 ? damping * mean : 1);
    inverse_ = at::cholesky_inverse(at::linalg_cholesky(hessian));
    place_ = at::arange(weight_.size(1), at::kLong);
    gone_ = at::zeros({weight_.size(1)}, at::kBool);
  }

  // Outputs in which the loss is the sum of squares: L^T w with G = L L^T.
  static at::Tensor weigh_outputs(const at::Tensor& covariance, const at::Tensor& weight) {
    at::Tensor damped = covariance.clone();
    const double mean = damped.diagonal().mean().item<double>();
    damped.diagonal().add_(mean > 0 ? kOutputDamping * mean : 1);
    return at::linalg_cholesky(damped).t().matmul(weight);
  }

  // [units]: tr(w_B [H^-1]_BB^-1 w_B^T), B the columns of a unit; relative to the outputs. Of units
  // that are gone: anything.
  at::Tensor scores() const {
    const at::Tensor places = place_.index({columns_}), columns = places.clamp_min(0);
    if (columns.size(1) == 1) {
      const at::Tensor each = columns.squeeze(1);
      const at::Tensor power = at::linalg_vector_norm(weight_, 2, at::IntArrayRef{0}).square();
      return power.index_select(0, each) / inverse_.diagonal().index_select(0, each) * scale_;
    }
    at::Tensor blocks =
        inverse_.index({columns.unsqueeze(2), columns.unsqueeze(1)});  // [units, b, b]
    const at::Tensor is_gone = places.select(1, 0).lt(0).reshape({-1, 1, 1});
    blocks = at::where(is_gone, at::eye(columns.size(1), at::kDouble), blocks);
    const at::Tensor w = weight_.t().contiguous().index({columns});    // [units, b, out]
    return (at::linalg_solve(blocks, w) * w).sum({1, 2}) * scale_;
  }

  void remove(const at::Tensor& units) {
    const at::Tensor b = place_.index({columns_.index_select(0, units).reshape({-1})});
    const at::Tensor rows = inverse_.index_select(0, b);  // [b, k]
    const at::Tensor solved = at::linalg_solve(rows.index_select(1, b), rows);
    weight_.addmm_(weight_.index_select(1, b), solved, 1, -1);
    inverse_.addmm_(rows.t(), solved, 1, -1);
    weight_.index_fill_(1, b, 0);
    inverse_.index_fill_(0, b, 0);
    inverse_.index_fill_(1, b, 0);
    inverse_.diagonal().index_fill_(0, b,
                                    1);  // so that it can be solved; the weights there are zero
    gone_.index_fill_(0, b, true);
    if (gone_.sum().item<int64_t>() * 8 > gone_.numel()) compact();
  }

 private:
  // Drops the columns that are gone: what is left costs the square of its share.
  void compact() {
    const at::Tensor stay = at::logical_not(gone_).nonzero().squeeze(1);
    if (stay.numel() == 0) return;
    weight_ = weight_.index_select(1, stay);
    inverse_ = inverse_.index_select(0, stay).index_select(1, stay);
    const at::Tensor moved = at::full({gone_.numel()}, -1, at::kLong);
    moved.index_copy_(0, stay, at::arange(stay.numel(), at::kLong));
    place_ = at::where(place_.lt(0), place_, moved.index({place_.clamp_min(0)}));
    gone_ = at::zeros({stay.numel()}, at::kBool);
  }

  // Share of the mean that is added to the diagonal of G, of which there are few samples.
  static constexpr double kOutputDamping = 0.1;
  at::Tensor columns_, weight_, inverse_;
  // Where a column is in weight_ and inverse_, -1: nowhere any more; whether one there is gone.
  at::Tensor place_, gone_;
  double scale_ = 0;
};

class ReconstructionError : public UnitCriterion {
 public:
  ReconstructionError(double damping, bool by_loss) : damping_(damping), by_loss_(by_loss) {}
  std::string_view name() const override { return by_loss_ ? "kfac" : "obs"; }
  EvidenceNeeds needs() const override { return {.moments = true, .gradients = by_loss_}; }

  Ranking rank(const GroupEvidence& evidence) const override {
    std::vector<Reader> readers;
    for (size_t i = 0; i < evidence.consumers.size(); ++i)
      readers.emplace_back(evidence, i, damping_, by_loss_);
    const graph::Group& group = evidence.group;
    const int64_t of_one = group.parent < 0 ? group.units : group.per_parent;
    std::vector<bool> gone(group.units, false);
    const int64_t at_once = std::max<int64_t>(1, of_one / kRounds);
    Ranking ranking;
    double largest = 0;
    while (static_cast<int64_t>(ranking.steps.size()) < of_one) {
      base::check_interrupt();
      const int64_t left = of_one - static_cast<int64_t>(ranking.steps.size());
      const Ranking next =
          lowest(group, total(readers, group.units), gone, std::min(at_once, left));
      std::vector<int64_t> chosen;
      for (size_t i = 0; i < next.steps.size(); ++i) {
        chosen.insert(chosen.end(), next.steps[i].begin(), next.steps[i].end());
        largest = std::max(largest, next.scores[i]);
        ranking.steps.push_back(next.steps[i]);
        ranking.scores.push_back(largest);
      }
      for (const int64_t unit : chosen) gone[unit] = true;
      for (Reader& reader : readers) reader.remove(at::tensor(chosen, at::kLong));
    }
    return ranking;
  }

 private:
  // Units are scored anew this often; those of a large group go several at once in between.
  static constexpr int64_t kRounds = 128;

  // The first `count` steps of those that are not gone.
  static Ranking lowest(const graph::Group& group, const at::Tensor& scores,
                        const std::vector<bool>& gone, int64_t count) {
    std::vector<double> values(group.units);
    for (int64_t u = 0; u < group.units; ++u)
      values[u] = gone[u] ? std::numeric_limits<double>::infinity() : scores[u].item<double>();
    Ranking ranking = rank_by_scores(group, values);
    ranking.steps.resize(count);
    ranking.scores.resize(count);
    return ranking;
  }

  static at::Tensor total(const std::vector<Reader>& readers, int64_t units) {
    at::Tensor sum = at::zeros({units}, at::kDouble);
    for (const Reader& reader : readers) sum += reader.scores();
    return sum;
  }

  double damping_;
  bool by_loss_;
};

}  // namespace

std::unique_ptr<UnitCriterion> reconstruction_error(double damping) {
  return std::make_unique<ReconstructionError>(damping, false);
}
std::unique_ptr<UnitCriterion> loss_curvature(double damping) {
  return std::make_unique<ReconstructionError>(damping, true);
}

}  // namespace packlight::prune

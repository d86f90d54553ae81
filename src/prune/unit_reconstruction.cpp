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
  Reader(const GroupEvidence& evidence, size_t index, double damping)
      : columns_(evidence.consumers[index].columns) {
    const Consumer& reader = evidence.consumers[index];
    const at::Tensor dense =
        exec::dense_weight(*evidence.graph.value(reader.matrix.weight_value()).weight);
    weight_ = reader.matrix.matrix(dense)[0].to(at::kDouble);
    at::Tensor hessian = evidence.moments[index].second.clone();
    const double power = (weight_.matmul(hessian) * weight_).sum().item<double>();
    scale_ = power > 0 ? 1 / power : 0;
    const double mean = hessian.diagonal().mean().item<double>();
    hessian.diagonal().add_(mean > 0 ? damping * mean : 1);
    inverse_ = at::cholesky_inverse(at::linalg_cholesky(hessian));
  }

  // [units]: tr(w_B [H^-1]_BB^-1 w_B^T), B the columns of a unit; relative to the outputs.
  at::Tensor scores() const {
    if (columns_.size(1) == 1) {
      const at::Tensor columns = columns_.squeeze(1);
      const at::Tensor power = weight_.square().sum(0).index_select(0, columns);
      return power / inverse_.diagonal().index_select(0, columns) * scale_;
    }
    const at::Tensor blocks =
        inverse_.index({columns_.unsqueeze(2), columns_.unsqueeze(1)});  // [units, b, b]
    const at::Tensor w = weight_.t().contiguous().index({columns_});     // [units, b, out]
    return (at::linalg_solve(blocks, w) * w).sum({1, 2}) * scale_;
  }

  void remove(const at::Tensor& units) {
    const at::Tensor b = columns_.index_select(0, units).reshape({-1});
    const at::Tensor rows = inverse_.index_select(0, b);  // [b, k]
    const at::Tensor solved = at::linalg_solve(rows.index_select(1, b), rows);
    weight_ -= weight_.index_select(1, b).matmul(solved);
    inverse_ -= rows.t().matmul(solved);
    weight_.index_fill_(1, b, 0);
    inverse_.index_fill_(0, b, 0);
    inverse_.index_fill_(1, b, 0);
    inverse_.diagonal().index_fill_(0, b,
                                    1);  // so that it can be solved; the weights there are zero
  }

 private:
  at::Tensor columns_, weight_, inverse_;
  double scale_ = 0;
};

class ReconstructionError : public UnitCriterion {
 public:
  explicit ReconstructionError(double damping) : damping_(damping) {}
  std::string_view name() const override { return "obs"; }
  bool needs_calibration() const override { return true; }

  Ranking rank(const GroupEvidence& evidence) const override {
    std::vector<Reader> readers;
    for (size_t i = 0; i < evidence.consumers.size(); ++i)
      readers.emplace_back(evidence, i, damping_);
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
};

}  // namespace

std::unique_ptr<UnitCriterion> reconstruction_error(double damping) {
  return std::make_unique<ReconstructionError>(damping);
}

}  // namespace packlight::prune

#include "prune/unit_selection.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"

namespace packlight::prune {
namespace {

using graph::Coupling;
using graph::GraphCost;
using graph::Group;

int64_t multiple_of(const Group& group, const SelectionOptions& options) {
  if (options.multiple > 0) return options.multiple;
  return group.kind == graph::GroupKind::kChannels && group.units >= 32 ? 8 : 1;
}

class Selector {
 public:
  Selector(const Coupling& coupling, const std::vector<Candidate>& candidates,
           const std::function<GraphCost(const Coupling::Removed&)>& cost,
           const SelectionOptions& options)
      : coupling_(coupling),
        candidates_(candidates),
        cost_(cost),
        options_(options),
        before_(cost(coupling.none())) {}

  Selection run() {
    const int64_t goal = goal_of();
    if (measure(before_) <= goal) {
      fail(ErrorCode::kInvalidArgument,
           "[prune] the target of {} {} is met without pruning: the model has {}", goal, unit(),
           measure(before_));
    }
    const std::vector<double> levels = this->levels();
    // The lowest level that meets the goal; costs fall as levels rise.
    size_t low = 0, high = levels.size();
    while (low < high) {
      const size_t middle = (low + high) / 2;
      if (measure(cost_(removed_at(levels[middle]))) <= goal) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    if (low == levels.size()) {
      const int64_t least =
          levels.empty() ? measure(before_) : measure(cost_(removed_at(levels.back())));
      fail(ErrorCode::kInvalidArgument,
           "[prune] {} {} cannot be reached: what may go within the limits leaves {} of {}", goal,
           unit(), least, measure(before_));
    }
    Selection selection{removed_at(levels[low]), before_, {}};
    selection.after = cost_(selection.removed);
    return selection;
  }

 private:
  const char* unit() const {
    return options_.target.macs    ? "multiply-accumulates"
           : options_.target.bytes ? "bytes"
                                   : "parameters";
  }

  int64_t measure(const GraphCost& cost) const {
    if (options_.target.bytes) return cost.bytes;
    if (!options_.target.macs) return cost.parameters;
    if (!cost.macs) {
      fail(ErrorCode::kInvalidArgument,
           "[prune] multiply-accumulates are not known: --input-shape fixes sizes that vary");
    }
    return *cost.macs;
  }

  int64_t goal_of() const {
    const PruneTarget& target = options_.target;
    if (target.parameters) return *target.parameters;
    if (target.bytes) return *target.bytes;
    if (target.macs) return *target.macs;
    // All that could go: every candidate down to one step.
    Coupling::Removed all = coupling_.none();
    for (const Candidate& candidate : candidates_)
      take(candidate, static_cast<int64_t>(candidate.ranking.steps.size()) - 1, all);
    const int64_t most = before_.parameters - cost_(all).parameters;
    return before_.parameters -
           static_cast<int64_t>(std::llround(*target.ratio * static_cast<double>(most)));
  }

  void take(const Candidate& candidate, int64_t steps, Coupling::Removed& removed) const {
    if (steps <= 0) return;
    std::vector<bool>& units = removed[candidate.group];
    units.assign(coupling_.groups()[candidate.group].units, false);
    for (int64_t i = 0; i < steps; ++i) {
      for (const int64_t unit : candidate.ranking.steps[i]) units[unit] = true;
    }
  }

  // Steps that may be taken of `wanted`: what is left keeps to the limits.
  int64_t allowed(const Candidate& candidate, int64_t wanted) const {
    const auto steps = static_cast<int64_t>(candidate.ranking.steps.size());
    const int64_t multiple = multiple_of(coupling_.groups()[candidate.group], options_);
    const auto most =
        static_cast<int64_t>(std::floor(options_.most * static_cast<double>(steps) + 1e-9));
    const int64_t left = std::max({steps - std::min(wanted, most), options_.least, int64_t{1}});
    const int64_t rounded = (left + multiple - 1) / multiple * multiple;
    return std::max<int64_t>(0, steps - rounded);
  }

  // What one step of a group costs for what it saves, by group and step; kGlobal.
  void weigh() {
    if (!values_.empty()) return;
    for (const Candidate& candidate : candidates_) {
      Coupling::Removed first = coupling_.none();
      take(candidate, 1, first);
      const auto saved = static_cast<double>(measure(before_) - measure(cost_(first)));
      std::vector<double> values;
      for (const double score : candidate.ranking.scores)
        values.push_back(score / std::max(1.0, saved));
      values_.push_back(std::move(values));
    }
  }

  std::vector<double> levels() {
    std::vector<double> levels;
    if (options_.spread == UnitSpread::kUniform) {
      for (int i = 1; i <= 1000; ++i) levels.push_back(i / 1000.0);
      return levels;
    }
    weigh();
    for (const std::vector<double>& values : values_)
      levels.insert(levels.end(), values.begin(), values.end());
    std::sort(levels.begin(), levels.end());
    levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
    return levels;
  }

  Coupling::Removed removed_at(double level) const {
    Coupling::Removed removed = coupling_.none();
    for (size_t i = 0; i < candidates_.size(); ++i) {
      const Candidate& candidate = candidates_[i];
      const auto steps = static_cast<double>(candidate.ranking.steps.size());
      int64_t wanted = static_cast<int64_t>(std::floor(level * steps + 1e-9));
      if (options_.spread == UnitSpread::kGlobal)
        wanted = std::upper_bound(values_[i].begin(), values_[i].end(), level) - values_[i].begin();
      take(candidate, allowed(candidate, wanted), removed);
    }
    return removed;
  }

  const Coupling& coupling_;
  const std::vector<Candidate>& candidates_;
  const std::function<GraphCost(const Coupling::Removed&)>& cost_;
  const SelectionOptions& options_;
  GraphCost before_;
  std::vector<std::vector<double>> values_;
};

}  // namespace

Selection select_units(const Coupling& coupling, const std::vector<Candidate>& candidates,
                       const std::function<GraphCost(const Coupling::Removed&)>& cost,
                       const SelectionOptions& options) {
  return Selector(coupling, candidates, cost, options).run();
}

}  // namespace packlight::prune

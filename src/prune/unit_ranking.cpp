#include "prune/unit_ranking.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "base/fail.h"

namespace packlight::prune {

Ranking rank_by_scores(const graph::Group& group, const std::vector<double>& scores) {
  const int64_t of_one = group.parent < 0 ? group.units : group.per_parent;
  std::vector<std::vector<int64_t>> orders;  // of each head of keys
  for (int64_t first = 0; first < group.units; first += of_one) {
    std::vector<int64_t> order(of_one);
    std::iota(order.begin(), order.end(), first);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return scores[a] < scores[b]; });
    orders.push_back(std::move(order));
  }
  Ranking ranking;
  double largest = 0;
  for (int64_t i = 0; i < of_one; ++i) {
    std::vector<int64_t> step;
    double score = 0;
    for (const std::vector<int64_t>& order : orders) {
      step.push_back(order[i]);
      score += scores[order[i]];
    }
    largest = std::max(largest, score);
    ranking.steps.push_back(std::move(step));
    ranking.scores.push_back(largest);
  }
  return ranking;
}

std::vector<Consumer> consumers_of(const graph::Graph& graph, const graph::Group& group) {
  std::vector<Consumer> consumers;
  for (graph::NodeId id = 0; id < static_cast<graph::NodeId>(graph.nodes().size()); ++id) {
    const auto matrix = calib::LayerMatrix::of(graph, id);
    if (!matrix || matrix->groups() != 1) continue;
    for (const graph::GroupSlot& slot : group.slots) {
      if (slot.weight != matrix->weight_value() || slot.axis != matrix->in_axis()) continue;
      const int64_t each = matrix->columns_per_input();
      const at::Tensor inputs =
          at::tensor(slot.indices, at::kLong).reshape({group.units, slot.per_unit, 1});
      const at::Tensor columns = inputs * each + at::arange(each, at::kLong);
      consumers.push_back({id, *matrix, columns.reshape({group.units, slot.per_unit * each})});
    }
  }
  return consumers;
}

const std::vector<std::string>& unit_criterion_names() {
  static const std::vector<std::string> names = {"obs", "kfac", "taylor", "fisher", "flap",
                                                 "wanda", "l1", "l2", "bn", "random"};
  return names;
}

std::unique_ptr<UnitCriterion> make_unit_criterion(std::string_view name, uint64_t seed) {
  if (name == "l1") return weight_norm(1);
  if (name == "l2") return weight_norm(2);
  if (name == "bn") return batch_norm_scale();
  if (name == "random") return random_units(seed);
  if (name == "wanda") return wanda_units();
  if (name == "flap") return fluctuation();
  if (name == "taylor") return taylor();
  if (name == "fisher") return fisher();
  if (name == "kfac") return loss_curvature(0.01);
  if (name == "obs") return reconstruction_error(0.01);
  fail(ErrorCode::kInvalidArgument, "[prune] criterion '{}' is none of {} for whole units", name,
       fmt::join(unit_criterion_names(), ", "));
}

}  // namespace packlight::prune

// Criteria that give each unit a score of its own.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <set>

#include "base/fail.h"
#include "base/hash.h"
#include "exec/executor.h"
#include "prune/unit_ranking.h"

namespace packlight::prune {
namespace {

std::vector<double> to_vector(const at::Tensor& scores) {
  const at::Tensor numbers = scores.to(at::kDouble).contiguous();
  const double* data = numbers.data_ptr<double>();
  return {data, data + numbers.numel()};
}

// The slices of a slot: [units, elements].
at::Tensor slices(const graph::Graph& graph, const graph::Group& group,
                  const graph::GroupSlot& slot) {
  const at::Tensor weight = exec::dense_weight(*graph.value(slot.weight).weight);
  const at::Tensor indices = at::tensor(slot.indices, at::kLong);
  return weight.movedim(slot.axis, 0).index_select(0, indices).reshape({group.units, -1});
}

class WeightNorm : public UnitCriterion {
 public:
  explicit WeightNorm(int order) : order_(order) {}
  std::string_view name() const override { return order_ == 1 ? "l1" : "l2"; }
  EvidenceNeeds needs() const override { return {}; }
  Ranking rank(const GroupEvidence& evidence) const override {
    at::Tensor sum = at::zeros({evidence.group.units}, at::kDouble);
    for (const graph::GroupSlot& slot : evidence.group.slots) {
      if (evidence.graph.value(slot.weight).shape->size() < 2) continue;  // vectors: not filters
      const at::Tensor norms =
          slices(evidence.graph, evidence.group, slot).to(at::kDouble).norm(order_, 1);
      const double mean = norms.mean().item<double>();
      if (mean > 0) sum += norms / mean;
    }
    return rank_by_scores(evidence.group, to_vector(sum));
  }

 private:
  int order_;
};

class BatchNormScale : public UnitCriterion {
 public:
  std::string_view name() const override { return "bn"; }
  EvidenceNeeds needs() const override { return {}; }
  Ranking rank(const GroupEvidence& evidence) const override {
    std::set<graph::ValueId> scales;
    for (const graph::Node& node : evidence.graph.nodes()) {
      if (node.op == "BatchNormalization") scales.insert(node.inputs[1]);
    }
    at::Tensor sum = at::zeros({evidence.group.units}, at::kDouble);
    bool any = false;
    for (const graph::GroupSlot& slot : evidence.group.slots) {
      if (!scales.contains(slot.weight)) continue;
      sum += slices(evidence.graph, evidence.group, slot).to(at::kDouble).abs().sum(1);
      any = true;
    }
    if (!any) {
      fail(ErrorCode::kInvalidArgument,
           "[prune] group '{}' passes no BatchNormalization: criterion bn knows nothing of it",
           evidence.group.name);
    }
    return rank_by_scores(evidence.group, to_vector(sum));
  }
};

class RandomUnits : public UnitCriterion {
 public:
  explicit RandomUnits(uint64_t seed) : seed_(seed) {}
  std::string_view name() const override { return "random"; }
  EvidenceNeeds needs() const override { return {}; }
  Ranking rank(const GroupEvidence& evidence) const override {
    const uint64_t seed = base::hash64(std::as_bytes(std::span(evidence.group.name))) + seed_;
    auto generator = at::detail::createCPUGenerator(seed);
    return rank_by_scores(evidence.group,
                          to_vector(at::rand({evidence.group.units}, generator, at::kDouble)));
  }

 private:
  uint64_t seed_;
};

// The sum over readers of what each column of a unit contributes, relative to all columns.
template <class Contribution>
Ranking rank_contributions(const GroupEvidence& evidence, const Contribution& contribution) {
  at::Tensor sum = at::zeros({evidence.group.units}, at::kDouble);
  for (size_t i = 0; i < evidence.consumers.size(); ++i) {
    const Consumer& reader = evidence.consumers[i];
    const at::Tensor weight =
        exec::dense_weight(*evidence.graph.value(reader.matrix.weight_value()).weight);
    const at::Tensor power = reader.matrix.matrix(weight)[0].to(at::kDouble).square().sum(0);
    const at::Tensor each = contribution(power, evidence.moments[i]);
    const double all = each.sum().template item<double>();
    if (all > 0) sum += each.index({reader.columns}).sum(1) / all;
  }
  return rank_by_scores(evidence.group, to_vector(sum));
}

class WandaUnits : public UnitCriterion {
 public:
  std::string_view name() const override { return "wanda"; }
  EvidenceNeeds needs() const override { return {.moments = true}; }
  Ranking rank(const GroupEvidence& evidence) const override {
    return rank_contributions(evidence, [](const at::Tensor& power, const InputMoments& moments) {
      return power * moments.second.diagonal();
    });
  }
};

class Fluctuation : public UnitCriterion {
 public:
  std::string_view name() const override { return "flap"; }
  EvidenceNeeds needs() const override { return {.moments = true}; }
  Ranking rank(const GroupEvidence& evidence) const override {
    return rank_contributions(evidence, [](const at::Tensor& power, const InputMoments& moments) {
      return power * (moments.second.diagonal() - moments.mean.square()).clamp_min(0);
    });
  }
};

// A score from what the units do to the loss, [samples, units].
template <class Score>
Ranking rank_effects(const GroupEvidence& evidence, const Score& score) {
  at::Tensor sum;
  for (size_t i = 0; i < evidence.consumers.size(); ++i) {
    const at::Tensor& columns = evidence.consumers[i].columns;
    const at::Tensor each = evidence.gradients[i]
                                .contributions.index_select(1, columns.reshape({-1}))
                                .reshape({-1, columns.size(0), columns.size(1)})
                                .sum(2);
    sum = sum.defined() ? sum + each : each;
  }
  return rank_by_scores(evidence.group, to_vector(score(sum)));
}

class Taylor : public UnitCriterion {
 public:
  std::string_view name() const override { return "taylor"; }
  EvidenceNeeds needs() const override { return {.gradients = true, .next_tokens = true}; }
  Ranking rank(const GroupEvidence& evidence) const override {
    return rank_effects(evidence, [](const at::Tensor& effects) { return effects.abs().mean(0); });
  }
};

class Fisher : public UnitCriterion {
 public:
  std::string_view name() const override { return "fisher"; }
  EvidenceNeeds needs() const override { return {.gradients = true}; }
  Ranking rank(const GroupEvidence& evidence) const override {
    return rank_effects(evidence,
                        [](const at::Tensor& effects) { return effects.square().mean(0); });
  }
};

}  // namespace

std::unique_ptr<UnitCriterion> taylor() { return std::make_unique<Taylor>(); }
std::unique_ptr<UnitCriterion> fisher() { return std::make_unique<Fisher>(); }
std::unique_ptr<UnitCriterion> weight_norm(int order) {
  return std::make_unique<WeightNorm>(order);
}
std::unique_ptr<UnitCriterion> batch_norm_scale() { return std::make_unique<BatchNormScale>(); }
std::unique_ptr<UnitCriterion> random_units(uint64_t seed) {
  return std::make_unique<RandomUnits>(seed);
}
std::unique_ptr<UnitCriterion> wanda_units() { return std::make_unique<WandaUnits>(); }
std::unique_ptr<UnitCriterion> fluctuation() { return std::make_unique<Fluctuation>(); }

}  // namespace packlight::prune

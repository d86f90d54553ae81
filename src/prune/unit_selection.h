#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "graph/cost.h"
#include "graph/coupling/coupling.h"
#include "prune/unit_ranking.h"

namespace packlight::prune {

// How much goes. Exactly one is set.
struct PruneTarget {
  std::optional<double> ratio;  // share of the parameters of everything that could go, in (0, 1)
  std::optional<int64_t> parameters, bytes, macs;  // at most that many are left in the whole model
};

enum class UnitSpread : uint8_t {
  kUniform,  // every group loses the same share of its units
  kGlobal,   // the units of lowest score for what they save, wherever they are
};

struct SelectionOptions {
  PruneTarget target;
  UnitSpread spread = UnitSpread::kGlobal;
  int64_t least = 1;  // units that stay in a group
  // What is left of a group is a multiple of this: 0: 8 for channels of 32 or more, else 1.
  int64_t multiple = 0;
  double most = 0.9;  // share of a group that may go
};

// A group that may lose units, with its ranking.
struct Candidate {
  size_t group;
  Ranking ranking;
};

struct Selection {
  graph::Coupling::Removed removed;
  graph::GraphCost before, after;
};

// Units to remove so that the target is met, as few as the spread allows. `cost`: of the model
// without units. Errors: InvalidArgument for a target that is met already, or that no choice within
// the limits meets (says what can be reached).
Selection select_units(const graph::Coupling& coupling, const std::vector<Candidate>& candidates,
                       const std::function<graph::GraphCost(const graph::Coupling::Removed&)>& cost,
                       const SelectionOptions& options);

}  // namespace packlight::prune

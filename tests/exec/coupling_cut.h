#pragma once

#include <random>

#include "exec/small_net.h"
#include "graph/coupling/coupling.h"
#include "packlight/error.h"

namespace packlight::test {

inline const graph::Group* group_named(const graph::Coupling& coupling, const std::string& name) {
  for (const graph::Group& group : coupling.groups()) {
    if (group.name == name) return &group;
  }
  return nullptr;
}

// A random choice of units of every group that may be cut: at least one goes and one stays, as many
// query heads of each head of keys.
inline graph::Coupling::Removed random_units(const graph::Coupling& coupling,
                                             std::mt19937_64& draw) {
  graph::Coupling::Removed removed = coupling.none();
  for (size_t g = 0; g < coupling.groups().size(); ++g) {
    const graph::Group& group = coupling.groups()[g];
    const int64_t of_one = group.parent < 0 ? group.units : group.per_parent;
    if (!group.blocked.empty() || of_one < 2) continue;
    removed[g].assign(group.units, false);
    const auto gone = static_cast<int64_t>(1 + draw() % (of_one - 1));
    for (int64_t first = 0; first < group.units; first += of_one) {
      std::vector<int64_t> order(of_one);
      std::iota(order.begin(), order.end(), first);
      std::shuffle(order.begin(), order.end(), draw);
      for (int64_t i = 0; i < gone; ++i) removed[g][order[i]] = true;
    }
  }
  return removed;
}

// The graph with zeros where the weights of those units are.
inline graph::Graph masked(const graph::Graph& graph, const graph::Coupling& coupling,
                           const graph::Coupling::Removed& removed) {
  graph::Graph result = graph;
  for (size_t g = 0; g < removed.size(); ++g) {
    const graph::Group& group = coupling.groups()[g];
    std::vector<int64_t> units;
    for (int64_t unit = 0; unit < group.units; ++unit) {
      bool gone = !removed[g].empty() && removed[g][unit];
      if (group.parent >= 0 && !removed[group.parent].empty())
        gone = gone || removed[group.parent][unit / group.per_parent];
      if (gone) units.push_back(unit);
    }
    if (units.empty()) continue;
    for (const graph::GroupSlot& slot : group.slots) {
      std::vector<int64_t> indices;
      for (const int64_t unit : units) {
        const auto begin = slot.indices.begin() + unit * slot.per_unit;
        indices.insert(indices.end(), begin, begin + slot.per_unit);
      }
      auto& weight = std::get<at::Tensor>(*result.value(slot.weight).weight);
      weight = weight.index_fill(slot.axis, at::tensor(indices, at::kLong), 0);
    }
  }
  return result;
}

// Cuts random units whose weights are zero, of all groups together and, where those leave an axis
// without indices, of each by itself, and compares the outputs. Returns how many went.
inline int64_t expect_cut_keeps_outputs(const graph::Graph& graph, std::mt19937_64& draw) {
  const graph::Coupling coupling(graph);
  const graph::Coupling::Removed all = random_units(coupling, draw);
  std::vector<graph::Coupling::Removed> choices{all};
  for (size_t g = 0; g < all.size(); ++g) {
    choices.push_back(coupling.none());
    choices.back()[g] = all[g];
  }
  int64_t count = 0;
  for (const graph::Coupling::Removed& removed : choices) {
    const graph::Graph before = masked(graph, coupling, removed);
    try {
      const graph::Graph after = coupling.cut(before, removed);
      expect_same_outputs(before, after, 64);
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).find("nothing would be left") != std::string::npos) << error.what();
      continue;
    }
    for (const std::vector<bool>& units : removed) count += std::count(units.begin(), units.end(), true);
    if (&removed == &choices[0]) break;
  }
  return count;
}

}  // namespace packlight::test

#pragma once

#include <unordered_map>

#include "graph/coupling/coupling_rules.h"

namespace packlight::graph {

// What a Coupling keeps to cut.
struct Coupling::Axes {
  CouplingState state;
  struct Place {
    int group = -1;
    int64_t unit = 0;
  };
  std::unordered_map<UnitId, Place> places;  // of the units of all groups

  // Whether the axes of a node's first input and output are known, so that its rule can be asked.
  bool is_known(const Node& node) const {
    const auto known = [&](const std::vector<ValueId>& ids) {
      return !ids.empty() && ids[0] != kNone && state.axes[ids[0]];
    };
    return known(node.inputs) && known(node.outputs);
  }
};

}  // namespace packlight::graph

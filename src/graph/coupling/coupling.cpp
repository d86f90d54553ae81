#include "graph/coupling/coupling.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/fail.h"
#include "graph/coupling/coupling_axes.h"
#include "graph/weight.h"

namespace packlight::graph {

std::string_view group_kind_name(GroupKind kind) {
  switch (kind) {
    case GroupKind::kChannels:
      return "channels";
    case GroupKind::kWidth:
      return "width";
    case GroupKind::kHeads:
      return "heads";
    case GroupKind::kKeyValueHeads:
      return "kv";
  }
  return "?";
}

namespace {

std::vector<std::vector<NodeId>> users_of(const Graph& graph) {
  std::vector<std::vector<NodeId>> users(graph.values().size());
  for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes().size()); ++id) {
    for (const ValueId input : graph.node(id).inputs) {
      if (input != kNone) users[input].push_back(id);
    }
  }
  return users;
}

class Analysis {
 public:
  explicit Analysis(const Graph& graph) : graph_(graph), users_(users_of(graph)) {
    state_.axes.resize(graph.values().size());
    state_.reasons = {"reshapes disagree about it", "it is no axis of channels"};
  }

  CouplingState run() {
    for (const ValueId id : graph_.inputs) fix(id, "is of input '" + graph_.value(id).name + "'");
    for (NodeId id = 0; id < static_cast<NodeId>(graph_.nodes().size()); ++id) couple(id);
    for (const ValueId id : graph_.outputs)
      block(id, "it is of output '" + graph_.value(id).name + "'");
    return std::move(state_);
  }

 private:
  void fix(ValueId id, std::string why) {
    if (!graph_.value(id).shape) return;
    state_.reasons.push_back(std::move(why));
    ValueAxes axes;
    for (const Dim& dim : *graph_.value(id).shape) {
      Axis axis;
      axis.size = dim.known() ? dim.value : -1;
      axis.reason = static_cast<int>(state_.reasons.size()) - 1;
      axes.push_back(axis);
    }
    state_.axes[id] = std::move(axes);
  }

  void block(ValueId id, std::string why) {
    if (!state_.axes[id]) return;
    state_.reasons.push_back(std::move(why));
    for (const Axis& axis : *state_.axes[id]) {
      for (const UnitId unit : axis.units)
        state_.units.block(unit, static_cast<int>(state_.reasons.size()) - 1);
    }
  }

  void couple(NodeId id) {
    CouplingContext context(graph_, users_, id, state_);
    const Node& node = graph_.node(id);
    try {
      const CouplingRule* rule = find_coupling_rule(node);
      if (rule == nullptr) context.stop("has no rule");
      rule->couple(context);
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        if (context.has(i) && context.is_weight(i))
          context.axes(i);  // those that it did not ask for
      }
      context.block_the_rest();
    } catch (const CouplingStop& stop) {
      give_up(context, fmt::format("'{}' ({}) {}", node.name, node.op, stop.why));
    }
    for (const ValueId output : node.outputs) {
      if (output != kNone && !state_.axes[output])
        fix(output, fmt::format("is of '{}' ({})", node.name, node.op));
    }
  }

  void give_up(CouplingContext& context, const std::string& why) {
    for (size_t i = 0; i < context.node().inputs.size(); ++i) {
      if (!context.has(i)) continue;
      const ValueId input = context.node().inputs[i];
      if (!state_.axes[input] && context.is_weight(i)) context.axes(i);
      block(input, why);
    }
    for (const ValueId output : context.node().outputs) {
      if (output == kNone) continue;
      state_.axes[output].reset();
      fix(output, why);
    }
  }

  const Graph& graph_;
  std::vector<std::vector<NodeId>> users_;
  CouplingState state_;
};

// Where the units of one leaf lie.
struct Incidence {
  std::map<std::pair<ValueId, int>, std::vector<int64_t>> indices;  // by weight and axis
};

// Leaves in the order in which they first appear, each with all its indices of all weights.
std::vector<std::pair<UnitId, Incidence>> incidences(const Graph& graph,
                                                     const CouplingState& state) {
  std::vector<std::pair<UnitId, Incidence>> result;
  std::map<UnitId, size_t> position;
  const auto add = [&](ValueId id) {
    if (!graph.value(id).weight || !state.axes[id]) return;
    for (size_t axis = 0; axis < state.axes[id]->size(); ++axis) {
      const Axis& one = (*state.axes[id])[axis];
      for (size_t i = 0; i < one.units.size(); ++i) {
        for (const UnitId leaf : state.units.leaves(one.units[i])) {
          const auto [it, is_new] = position.emplace(leaf, result.size());
          if (is_new) result.push_back({leaf, {}});
          result[it->second].second.indices[{id, static_cast<int>(axis)}].push_back(
              static_cast<int64_t>(i));
        }
      }
    }
  };
  std::set<ValueId> seen;
  for (const Node& node : graph.nodes()) {
    for (const ValueId id : node.inputs) {
      if (id != kNone && seen.insert(id).second) add(id);
    }
  }
  return result;
}

// The first layer that has each leaf among its outputs.
std::map<UnitId, std::string> layer_names(const Graph& graph, const CouplingState& state) {
  static const std::set<std::string_view> kLayers = {"Conv", "ConvTranspose", "Gemm", "MatMul"};
  std::map<UnitId, std::string> names;
  for (const Node& node : graph.nodes()) {
    if (!kLayers.contains(node.op) || !state.axes[node.outputs[0]]) continue;
    for (const Axis& axis : *state.axes[node.outputs[0]]) {
      for (const UnitId unit : axis.units) {
        for (const UnitId leaf : state.units.leaves(unit)) names.emplace(leaf, node.name);
      }
    }
  }
  return names;
}

}  // namespace

Coupling::Coupling(const Graph& graph) {
  auto axes = std::make_unique<Axes>();
  axes->state = Analysis(graph).run();
  const CouplingState& state = axes->state;
  const auto names = layer_names(graph, state);
  std::map<UnitId, GroupKind> kinds;  // of the units that the marked ones have become
  for (const auto& [unit, kind] : state.kinds) {
    for (const UnitId leaf : state.units.leaves(unit)) kinds[leaf] = std::max(kinds[leaf], kind);
  }
  // Leaves that touch the same axes, as often, and may or may not go for the same reason, are a
  // group.
  using Signature = std::pair<int, std::vector<std::pair<std::pair<ValueId, int>, size_t>>>;
  std::map<Signature, int> by_signature;
  for (const auto& [leaf, incidence] : incidences(graph, state)) {
    Signature signature;
    signature.first = state.units.blocked(leaf);
    if (signature.first == kNoChannels) continue;
    for (const auto& [slot, indices] : incidence.indices)
      signature.second.push_back({slot, indices.size()});
    const auto [it, is_new] = by_signature.emplace(signature, static_cast<int>(groups_.size()));
    if (is_new) {
      Group group;
      const auto name = names.find(leaf);
      group.name = name != names.end() ? name->second
                                       : graph.value(incidence.indices.begin()->first.first).name;
      const auto kind = kinds.find(leaf);
      if (kind != kinds.end()) group.kind = kind->second;
      if (signature.first >= 0) group.blocked = state.reasons[signature.first];
      for (const auto& [slot, indices] : incidence.indices)
        group.slots.push_back({slot.first, slot.second, static_cast<int64_t>(indices.size()), {}});
      groups_.push_back(std::move(group));
    }
    Group& group = groups_[it->second];
    axes->places[leaf] = {it->second, group.units++};
    for (GroupSlot& slot : group.slots) {
      const std::vector<int64_t>& indices = incidence.indices.at({slot.weight, slot.axis});
      slot.indices.insert(slot.indices.end(), indices.begin(), indices.end());
    }
  }
  axes_ = std::move(axes);
  find_parents();
}

Coupling::~Coupling() = default;
Coupling::Coupling(Coupling&&) noexcept = default;
Coupling& Coupling::operator=(Coupling&&) noexcept = default;

// Query heads whose group is not one of as many as their keys' say, in their order, stay; so do
// those of keys that stay, and keys whose query heads stay.
void Coupling::find_parents() {
  const CouplingState& state = axes_->state;
  for (const CouplingState::Nesting& nesting : state.nestings) {
    const auto place = [&](UnitId unit) {
      const std::vector<UnitId> leaves = state.units.leaves(unit);
      const auto it = leaves.size() == 1 ? axes_->places.find(leaves[0]) : axes_->places.end();
      return it == axes_->places.end() ? Axes::Place() : it->second;
    };
    const auto group_of = [&](const std::vector<UnitId>& units) {
      const int group = place(units[0]).group;
      for (size_t i = 0; i < units.size(); ++i) {
        const Axes::Place at = place(units[i]);
        if (at.group != group || at.unit != static_cast<int64_t>(i)) return -1;
      }
      return group >= 0 && groups_[group].units == static_cast<int64_t>(units.size()) ? group : -1;
    };
    const int outer = group_of(nesting.outer), inner = group_of(nesting.inner);
    const auto block = [&](const std::vector<UnitId>& units, const char* why) {
      for (const UnitId unit : units) {
        const int group = place(unit).group;
        if (group >= 0 && groups_[group].blocked.empty()) groups_[group].blocked = why;
      }
    };
    if (outer < 0 || inner < 0 || !groups_[outer].blocked.empty() ||
        !groups_[inner].blocked.empty()) {
      block(nesting.outer, "query heads that use it stay");
      block(nesting.inner, "the keys it uses stay");
      continue;
    }
    groups_[inner].parent = outer;
    groups_[inner].per_parent = nesting.per_outer;
  }
}

}  // namespace packlight::graph

#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "graph/coupling/coupling.h"
#include "graph/coupling/units.h"
#include "graph/graph.h"

namespace packlight::graph {

// One axis of a value: which unit each of its indices belongs to, or why none of them can be cut.
struct Axis {
  int64_t size = -1;          // -1: not known, so it is fixed
  std::vector<UnitId> units;  // [size]; empty: the axis is fixed
  int reason = 0;             // of a fixed axis
  bool fixed() const { return units.empty(); }
};
using ValueAxes = std::vector<Axis>;

// The first reasons of every graph: Units' own, and that of an axis that no rule speaks of, which
// is in no group.
enum Reason : int { kReshapesDisagree, kNoChannels, kFirstReason };

// What the analysis knows of a graph.
struct CouplingState {
  Units units;
  std::vector<std::optional<ValueAxes>> axes;  // by value
  std::vector<std::string> reasons;
  std::map<UnitId, GroupKind> kinds;
  // Query heads inner[h] that go with the key and value head outer[h / per_outer].
  struct Nesting {
    std::vector<UnitId> outer, inner;
    int64_t per_outer = 1;
  };
  std::vector<Nesting> nestings;
};

// What a rule sees of a node, and what it says of it.
class CouplingContext {
 public:
  CouplingContext(const Graph& graph, const std::vector<std::vector<NodeId>>& users, NodeId id,
                  CouplingState& state)
      : graph_(graph), users_(users), id_(id), state_(state) {}

  const Graph& graph() const { return graph_; }
  const Node& node() const { return graph_.node(id_); }
  bool has(size_t input) const {
    return input < node().inputs.size() && node().inputs[input] != kNone;
  }
  // The axes of an input; stops the node where its rank is unknown.
  const ValueAxes& axes(size_t input);
  std::optional<std::vector<int64_t>> integers(size_t input) const;
  // Whether it is a constant of the graph.
  bool is_weight(size_t input) const;
  // The nodes that read a value.
  const std::vector<NodeId>& users(ValueId value) const { return users_[value]; }
  // The inferred shape of an output; nothing when its rank is unknown.
  const std::optional<Shape>& output_shape(size_t output) const {
    return graph_.value(node().outputs[output]).shape;
  }

  // Says of an output what its axes are. Outputs of which nothing is said are fixed.
  void set(size_t output, ValueAxes axes);
  // The axes go together, index by index; where one of them is fixed, the other is blocked.
  void unite(const Axis& a, const Axis& b);
  void unite(UnitId a, UnitId b);
  void block(const Axis& axis, std::string_view why);
  Axis fixed(int64_t size, std::string_view why);
  Axis fixed(const Dim& dim, std::string_view why) {
    return fixed(dim.known() ? dim.value : -1, why);
  }
  // Units of their own. An axis of size 1 is fixed: its one index cannot go.
  Axis fresh(int64_t size);
  UnitId one_that_stays(const Axis& why);
  UnitId compound(const std::vector<UnitId>& parts);
  void mark(const Axis& axis, GroupKind kind);
  void nest(const Axis& outer, const Axis& inner);

  // Gives the node up: its inputs are blocked, its outputs fixed.
  [[noreturn]] void stop(std::string why) const;

  // After the rule: axes of inputs that it said nothing of are no channels (the kernel of a
  // convolution, say): they stay.
  void block_the_rest();

 private:
  int reason(std::string_view why);
  void mention(const Axis& axis) { mentioned_.insert(axis.units.begin(), axis.units.end()); }

  const Graph& graph_;
  const std::vector<std::vector<NodeId>>& users_;
  NodeId id_;
  CouplingState& state_;
  std::unordered_set<UnitId> mentioned_;
};

// What stop() throws.
struct CouplingStop {
  std::string why;
};

// What a rule sees of a node when units have gone, and what it changes.
class CutContext {
 public:
  // By value and axis: which indices stay; absent: all.
  using Kept = std::map<std::pair<ValueId, int>, std::vector<int64_t>>;

  CutContext(Graph& graph, NodeId id, const CouplingState& state, const Kept& kept)
      : graph_(graph), id_(id), state_(state), kept_(kept) {}

  Node& node() { return graph_.node(id_); }
  bool has(size_t input) const {
    const Node& node = graph_.node(id_);
    return input < node.inputs.size() && node.inputs[input] != kNone;
  }
  ValueId output(size_t output) const { return graph_.node(id_).outputs[output]; }
  ValueId input(size_t input) const { return graph_.node(id_).inputs[input]; }
  // How long an axis was; -1: not known. How much of it is left.
  int64_t size(ValueId value, int axis) const;
  int64_t left(ValueId value, int axis) const;
  size_t rank(ValueId value) const { return state_.axes[value]->size(); }
  // The indices that stay; nothing where all do.
  const std::vector<int64_t>* kept(ValueId value, int axis) const;

  std::optional<std::vector<int64_t>> integers(size_t input) const;
  // Gives the node a constant of its own for an input.
  void set_integers(size_t input, const std::vector<int64_t>& numbers);
  void set_weight(size_t input, at::Tensor tensor);
  const Graph& graph() const { return graph_; }

 private:
  Graph& graph_;
  NodeId id_;
  const CouplingState& state_;
  const Kept& kept_;
};

// How one operator couples axes. `cut` may be null: no attribute and no constant tells a size.
struct CouplingRule {
  std::string_view op;
  void (*couple)(CouplingContext&);
  void (*cut)(CutContext&) = nullptr;
};

// Operators of ai.onnx; nullptr: no rule, so it stops every group.
const CouplingRule* find_coupling_rule(const Node& node);

// One table per family, in the file of that name.
std::span<const CouplingRule> coupling_of_elementwise();
std::span<const CouplingRule> coupling_of_layers();
std::span<const CouplingRule> coupling_of_normalizations();
std::span<const CouplingRule> coupling_of_windows();
std::span<const CouplingRule> coupling_of_movements();
std::span<const CouplingRule> coupling_of_reshapes();
std::span<const CouplingRule> coupling_of_attention();

// Helpers that rules share.
// The axes of values that broadcast (numpy rules): those of one index are stretched, the others
// united. Returns the result's.
ValueAxes broadcast_axes(CouplingContext& context, std::span<const ValueAxes> operands);
// axis in [-rank, rank) -> [0, rank)
int64_t wrapped_axis(int64_t axis, size_t rank);

}  // namespace packlight::graph

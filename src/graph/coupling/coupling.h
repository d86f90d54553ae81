#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace packlight::graph {

// What the units of a group are; operators say so.
enum class GroupKind : uint8_t {
  kChannels,       // outputs of convolutions, neurons of feed-forward layers
  kWidth,          // of the residual stream: what a normalisation takes the mean square over
  kHeads,          // query heads
  kKeyValueHeads,  // keys and values, each with the query heads that use them
};
std::string_view group_kind_name(GroupKind kind);  // "channels", "width", "heads", "kv"

// Where the units of a group lie on one axis of one weight.
struct GroupSlot {
  ValueId weight = kNone;
  int axis = 0;
  int64_t per_unit = 0;          // indices that go with one unit
  std::vector<int64_t> indices;  // [units, per_unit], ascending in each unit
};

// Units that touch the same axes of the same weights: any of them may be cut, alone or with others.
struct Group {
  std::string name;  // of the first layer that makes them, or of the first weight
  GroupKind kind = GroupKind::kChannels;
  int64_t units = 0;
  std::vector<GroupSlot> slots;  // every weight that gets smaller
  std::string blocked;           // why no unit can be cut; empty: each can
  // Query heads: unit i belongs to unit i / per_parent of group `parent`, which takes it with it;
  // all that stay there keep equally many.
  int parent = -1;
  int64_t per_parent = 0;
};

// The coupled-channel groups of a graph: which slices of which weights have to go together, so that
// what is left is a network. Found from what each operator says of its inputs' and outputs' axes
// (coupling_rules.h); an operator without a rule stops every group that reaches it.
//
//   An example: x [n, 8] -> Gemm A [16, 8] -> Relu -> Gemm B [4, 16] -> y. Rows of A, elements of
//   its bias and columns of B are one group of 16 units. y is an output and x an input, so that the
//   rows of B and the columns of A have to stay.
class Coupling {
 public:
  // `graph` has its shapes (infer_shapes()), need not outlive this.
  explicit Coupling(const Graph& graph);
  ~Coupling();
  Coupling(Coupling&&) noexcept;
  Coupling& operator=(Coupling&&) noexcept;

  // In the order of the layers that make them; those that are blocked, too.
  const std::vector<Group>& groups() const { return groups_; }

  // Which units go, by group. Empty for a group: none.
  using Removed = std::vector<std::vector<bool>>;
  // Nothing is removed.
  Removed none() const { return Removed(groups_.size()); }

  // The graph without those units: the slices of all weights of the groups, and every attribute and
  // constant that tells a size. What a parent takes with it goes, too. Where the units' weights
  // are all zero, outputs stay as they are (up to rounding). Encoded weights become dense F32.
  // `sizes_only`: weights have the new shapes but no elements of their own (for counting).
  // Errors: InvalidArgument for a unit of a group that is blocked, a group of which nothing would
  // be left, unequal query heads; Internal where an operator's rule is wrong.
  Graph cut(const Graph& graph, const Removed& removed, bool sizes_only = false) const;

 private:
  struct Axes;
  void find_parents();
  void check(const Removed& removed) const;
  std::vector<Group> groups_;
  std::unique_ptr<const Axes> axes_;
};

}  // namespace packlight::graph

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace packlight::graph {

using UnitId = int32_t;

// What can be removed from a graph as one: a class of indices of axes that have to go together.
//   united:     a and b are one unit: they go together or not at all
//   compounded: an index of an axis that was made of several (a reshape of [9, 64] to 576) goes
//               when the unit of any of its parts does
//   blocked:    it has to stay
class Units {
 public:
  UnitId add();
  std::vector<UnitId> add(int64_t count);

  // Where one is a compound, the other becomes it; two compounds are united part by part, and
  // blocked where they have not the same number of parts.
  void unite(UnitId a, UnitId b);
  // A new unit that goes when any of `parts` goes.
  UnitId compound(const std::vector<UnitId>& parts);
  // `reason` is an index of the caller's; the first one stays.
  void block(UnitId unit, int reason);

  // The units that take this one with them, each the representative of its class: itself, unless it
  // is a compound.
  std::vector<UnitId> leaves(UnitId unit) const;
  // Of a leaf: why it has to stay; -1: it may go.
  int blocked(UnitId leaf) const { return blocked_[leaf]; }

 private:
  UnitId root(UnitId unit) const;
  void collect(UnitId unit, std::vector<UnitId>& into) const;
  void become(UnitId simple, UnitId compound);

  mutable std::vector<UnitId> parent_;
  std::vector<std::vector<UnitId>> parts_;  // of a root; empty: it is no compound
  std::vector<int> blocked_;                // of a root; -1: not
};

}  // namespace packlight::graph

#include "graph/coupling/units.h"

#include <algorithm>

namespace packlight::graph {

namespace {
// Compounds that do not fit each other: no reason of the caller's.
constexpr int kDoNotFit = 0;
}  // namespace

UnitId Units::add() {
  const auto id = static_cast<UnitId>(parent_.size());
  parent_.push_back(id);
  parts_.emplace_back();
  blocked_.push_back(-1);
  return id;
}

std::vector<UnitId> Units::add(int64_t count) {
  std::vector<UnitId> units(count);
  for (UnitId& unit : units) unit = add();
  return units;
}

UnitId Units::root(UnitId unit) const {
  while (parent_[unit] != unit) {
    parent_[unit] = parent_[parent_[unit]];
    unit = parent_[unit];
  }
  return unit;
}

void Units::collect(UnitId unit, std::vector<UnitId>& into) const {
  unit = root(unit);
  if (parts_[unit].empty()) {
    if (std::find(into.begin(), into.end(), unit) == into.end()) into.push_back(unit);
    return;
  }
  for (const UnitId part : parts_[unit]) collect(part, into);
}

std::vector<UnitId> Units::leaves(UnitId unit) const {
  std::vector<UnitId> result;
  collect(unit, result);
  return result;
}

UnitId Units::compound(const std::vector<UnitId>& parts) {
  if (parts.size() == 1) return parts[0];
  const UnitId unit = add();
  parts_[unit] = parts;
  return unit;
}

void Units::become(UnitId simple, UnitId compound) {
  const std::vector<UnitId> parts = leaves(compound);
  if (std::find(parts.begin(), parts.end(), simple) != parts.end()) {
    // The simple one takes the compound with it, which takes the simple one: its other parts would
    // take the simple one, too, and with it all that shares them.
    for (const UnitId part : parts) block(part, kDoNotFit);
    return;
  }
  const int reason = blocked_[simple];
  parent_[simple] = compound;
  if (reason >= 0) block(compound, reason);
}

void Units::unite(UnitId a, UnitId b) {
  a = root(a), b = root(b);
  if (a == b) return;
  if (parts_[a].empty() && parts_[b].empty()) {
    if (b < a) std::swap(a, b);  // the older one represents both: it does not depend on the order
    parent_[b] = a;
    if (blocked_[a] < 0) blocked_[a] = blocked_[b];
    return;
  }
  if (parts_[a].empty()) return become(a, b);
  if (parts_[b].empty()) return become(b, a);
  if (parts_[a].size() != parts_[b].size()) {
    block(a, kDoNotFit);
    block(b, kDoNotFit);
    return;
  }
  const std::vector<UnitId> first = parts_[a], second = parts_[b];
  for (size_t i = 0; i < first.size(); ++i) unite(first[i], second[i]);
  a = root(a), b = root(b);
  if (a != b) parent_[b] = a;
}

void Units::block(UnitId unit, int reason) {
  for (const UnitId leaf : leaves(unit)) {
    if (blocked_[leaf] < 0) blocked_[leaf] = reason;
  }
}

}  // namespace packlight::graph

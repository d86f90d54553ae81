#include "graph/coupling/coupling_rules.h"

#include <algorithm>
#include <array>

#include "base/fail.h"
#include "graph/weight.h"

namespace packlight::graph {

const CouplingRule* find_coupling_rule(const Node& node) {
  if (!node.domain.empty()) return nullptr;
  for (const auto& table :
       {coupling_of_elementwise(), coupling_of_layers(), coupling_of_normalizations(),
        coupling_of_windows(), coupling_of_movements(), coupling_of_reshapes(),
        coupling_of_attention()}) {
    for (const CouplingRule& rule : table) {
      if (rule.op == node.op) return &rule;
    }
  }
  return nullptr;
}

int64_t wrapped_axis(int64_t axis, size_t rank) {
  return axis < 0 ? axis + static_cast<int64_t>(rank) : axis;
}

const ValueAxes& CouplingContext::axes(size_t input) {
  const ValueId id = node().inputs[input];
  std::optional<ValueAxes>& axes = state_.axes[id];
  if (axes) return *axes;
  const Value& value = graph_.value(id);
  if (!value.weight) stop("reads '" + value.name + "', whose rank is not known");
  axes.emplace();
  for (const int64_t size : weight_shape(*value.weight)) {
    axes->push_back(is_float(weight_type(*value.weight)) ? fresh(size)
                                                         : fixed(size, "is of integers"));
  }
  return *axes;
}

std::optional<std::vector<int64_t>> CouplingContext::integers(size_t input) const {
  return has(input) ? constant_integers(graph_, node().inputs[input]) : std::nullopt;
}

bool CouplingContext::is_weight(size_t input) const {
  return graph_.value(node().inputs[input]).weight.has_value();
}

void CouplingContext::set(size_t output, ValueAxes axes) {
  const ValueId id = node().outputs[output];
  if (id == kNone) return;
  const auto& shape = graph_.value(id).shape;
  for (const Axis& axis : axes) mention(axis);
  bool agrees = !shape || shape->size() == axes.size();
  for (size_t i = 0; agrees && shape && i < axes.size(); ++i) {
    const Dim& dim = (*shape)[i];
    agrees =
        axes[i].fixed() || (dim.known() && dim.value == static_cast<int64_t>(axes[i].units.size()));
    axes[i].size = dim.known() ? dim.value : axes[i].fixed() ? -1 : axes[i].size;
  }
  if (!agrees) {
    fail(ErrorCode::kInternal,
         "[graph.coupling] node '{}' ({}): its rule gives '{}' other axes than its shape {}",
         node().name, node().op, graph_.value(id).name, to_string(*shape));
  }
  state_.axes[id] = std::move(axes);
}

void CouplingContext::unite(UnitId a, UnitId b) {
  mentioned_.insert(a);
  mentioned_.insert(b);
  state_.units.unite(a, b);
}

UnitId CouplingContext::compound(const std::vector<UnitId>& parts) {
  mentioned_.insert(parts.begin(), parts.end());
  return state_.units.compound(parts);
}

void CouplingContext::block_the_rest() {
  for (size_t i = 0; i < node().inputs.size(); ++i) {
    if (!has(i) || !state_.axes[node().inputs[i]]) continue;
    for (const Axis& axis : *state_.axes[node().inputs[i]]) {
      const auto is_mentioned = [&](UnitId unit) { return mentioned_.contains(unit); };
      if (std::none_of(axis.units.begin(), axis.units.end(), is_mentioned)) {
        for (const UnitId unit : axis.units) state_.units.block(unit, kNoChannels);
      }
    }
  }
}

void CouplingContext::unite(const Axis& a, const Axis& b) {
  mention(a);
  mention(b);
  if (a.fixed() && b.fixed()) return;
  if (a.fixed() || b.fixed()) {
    const Axis &stays = a.fixed() ? a : b, &goes = a.fixed() ? b : a;
    for (const UnitId unit : goes.units) state_.units.block(unit, stays.reason);
    return;
  }
  if (a.units.size() != b.units.size()) {
    block(a, "meets an axis of another size");
    block(b, "meets an axis of another size");
    return;
  }
  for (size_t i = 0; i < a.units.size(); ++i) state_.units.unite(a.units[i], b.units[i]);
}

void CouplingContext::block(const Axis& axis, std::string_view why) {
  if (axis.fixed()) return;
  mention(axis);
  const int id = reason(why);
  for (const UnitId unit : axis.units) state_.units.block(unit, id);
}

Axis CouplingContext::fixed(int64_t size, std::string_view why) {
  Axis axis;
  axis.size = size;
  axis.reason = reason(why);
  return axis;
}

Axis CouplingContext::fresh(int64_t size) {
  if (size < 2) return fixed(size, "has one index");
  Axis axis;
  axis.size = size;
  axis.units = state_.units.add(size);
  return axis;
}

UnitId CouplingContext::one_that_stays(const Axis& why) {
  const UnitId unit = state_.units.add();
  state_.units.block(unit, why.reason);
  return unit;
}

void CouplingContext::mark(const Axis& axis, GroupKind kind) {
  for (const UnitId unit : axis.units) {
    for (const UnitId leaf : state_.units.leaves(unit)) state_.kinds[leaf] = kind;
  }
}

void CouplingContext::nest(const Axis& outer, const Axis& inner) {
  state_.nestings.push_back({outer.units, inner.units, inner.size / outer.size});
}

void CouplingContext::stop(std::string why) const { throw CouplingStop{std::move(why)}; }

int CouplingContext::reason(std::string_view why) {
  std::string text = fmt::format("an axis at '{}' ({}) {}", node().name, node().op, why);
  // The same node says the same of many axes, one after the other.
  for (size_t i = state_.reasons.size(); i-- > 0 && i + 4 > state_.reasons.size();) {
    if (state_.reasons[i] == text) return static_cast<int>(i);
  }
  state_.reasons.push_back(std::move(text));
  return static_cast<int>(state_.reasons.size()) - 1;
}

int64_t CutContext::size(ValueId value, int axis) const { return (*state_.axes[value])[axis].size; }

const std::vector<int64_t>* CutContext::kept(ValueId value, int axis) const {
  const auto it = kept_.find({value, axis});
  return it == kept_.end() ? nullptr : &it->second;
}

int64_t CutContext::left(ValueId value, int axis) const {
  const std::vector<int64_t>* indices = kept(value, axis);
  return indices == nullptr ? size(value, axis) : static_cast<int64_t>(indices->size());
}

std::optional<std::vector<int64_t>> CutContext::integers(size_t input) const {
  return has(input) ? constant_integers(graph_, graph_.node(id_).inputs[input]) : std::nullopt;
}

void CutContext::set_integers(size_t input, const std::vector<int64_t>& numbers) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(numbers.size())}, at::kLong);
  std::copy(numbers.begin(), numbers.end(), tensor.data_ptr<int64_t>());
  set_weight(input, std::move(tensor));
}

void CutContext::set_weight(size_t input, at::Tensor tensor) {
  std::vector<ValueId>& inputs = node().inputs;
  if (inputs.size() <= input) inputs.resize(input + 1, kNone);
  const std::string base =
      inputs[input] == kNone ? node().name + ".sizes" : graph_.value(inputs[input]).name;
  const ValueId id = graph_.add_weight(graph_.free_name(base), std::move(tensor));
  node().inputs[input] = id;
}

}  // namespace packlight::graph

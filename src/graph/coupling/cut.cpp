#include <ATen/ATen.h>

#include <algorithm>
#include <functional>

#include "base/fail.h"
#include "codec/encoded_tensor.h"
#include "graph/coupling/coupling_axes.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

using Kept = CutContext::Kept;

at::Tensor dense(const Weight& weight) {
  if (const auto* tensor = std::get_if<at::Tensor>(&weight)) return *tensor;
  const auto& encoded = std::get<codec::EncodedTensor>(weight);
  at::Tensor values = at::empty({encoded.rows, encoded.cols}, at::kFloat);
  codec::decode_rows(encoded, 0, encoded.rows, values.data_ptr<float>());
  return values;
}

// A tensor of this shape whose elements are one and the same.
at::Tensor without_elements(const std::vector<int64_t>& shape) {
  return at::zeros({1}, at::kFloat).expand(shape);
}

at::Tensor selected(const Weight& weight, const std::vector<const std::vector<int64_t>*>& kept) {
  at::Tensor tensor = dense(weight);
  for (size_t axis = 0; axis < kept.size(); ++axis) {
    if (kept[axis] == nullptr) continue;
    const at::Tensor indices = at::tensor(*kept[axis], at::kLong);
    tensor = tensor.index_select(static_cast<int64_t>(axis), indices);
  }
  return tensor.contiguous();
}

// The indices that stay of every axis that loses some.
Kept kept_indices(const CouplingState& state, const std::function<bool(UnitId)>& goes) {
  Kept kept;
  for (size_t id = 0; id < state.axes.size(); ++id) {
    if (!state.axes[id]) continue;
    for (size_t axis = 0; axis < state.axes[id]->size(); ++axis) {
      const std::vector<UnitId>& units = (*state.axes[id])[axis].units;
      if (units.empty()) continue;
      std::vector<int64_t> indices;
      for (size_t i = 0; i < units.size(); ++i) {
        if (!goes(units[i])) indices.push_back(static_cast<int64_t>(i));
      }
      if (indices.size() != units.size())
        kept[{static_cast<ValueId>(id), static_cast<int>(axis)}] = std::move(indices);
    }
  }
  return kept;
}

void cut_weights(Graph& graph, const Kept& kept, bool sizes_only) {
  for (ValueId id = 0; id < static_cast<ValueId>(graph.values().size()); ++id) {
    Value& value = graph.value(id);
    if (!value.weight) continue;
    std::vector<int64_t> shape = weight_shape(*value.weight);
    std::vector<const std::vector<int64_t>*> indices(shape.size(), nullptr);
    bool changed = false;
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      const auto it = kept.find({id, static_cast<int>(axis)});
      if (it == kept.end()) continue;
      indices[axis] = &it->second;
      shape[axis] = static_cast<int64_t>(it->second.size());
      changed = true;
    }
    if (!changed) continue;
    value.weight = sizes_only ? without_elements(shape) : selected(*value.weight, indices);
    value.type = weight_type(*value.weight);
    value.shape = Shape(shape.begin(), shape.end());
  }
}

// Shapes anew, and that they are what the units say.
void check_shapes(const Graph& before, Graph& graph, const Kept& kept) {
  for (ValueId id = 0; id < static_cast<ValueId>(before.values().size()); ++id) {
    if (before.value(id).producer >= 0) graph.value(id).shape.reset();
  }
  infer_shapes(graph);
  for (const auto& [place, indices] : kept) {
    const auto& shape = graph.value(place.first).shape;
    const auto left = static_cast<int64_t>(indices.size());
    if (shape && (*shape)[place.second] == Dim(left)) continue;
    fail(ErrorCode::kInternal, "[graph.cut] '{}' has shape {} after the cut, not {} on axis {}",
         graph.value(place.first).name, shape ? to_string(*shape) : "[...]", left, place.second);
  }
}

}  // namespace

void Coupling::check(const Removed& removed) const {
  if (removed.size() != groups_.size())
    fail(ErrorCode::kInvalidArgument, "[graph.cut] {} groups are told of {}", removed.size(),
         groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    const int64_t gone = std::count(removed[g].begin(), removed[g].end(), true);
    if (gone == 0) continue;
    if (static_cast<int64_t>(removed[g].size()) != group.units)
      fail(ErrorCode::kInvalidArgument, "[graph.cut] group '{}': {} units are told of {}",
           group.name, removed[g].size(), group.units);
    if (!group.blocked.empty())
      fail(ErrorCode::kInvalidArgument, "[graph.cut] group '{}' cannot be cut: {}", group.name,
           group.blocked);
    if (gone == group.units)
      fail(ErrorCode::kInvalidArgument, "[graph.cut] group '{}': all {} units would go", group.name,
           gone);
    if (group.parent < 0) continue;
    // As many query heads for each head of keys that stays.
    std::vector<int64_t> left(groups_[group.parent].units, 0);
    for (int64_t i = 0; i < group.units; ++i) left[i / group.per_parent] += removed[g][i] ? 0 : 1;
    int64_t first = -1;
    for (size_t k = 0; k < left.size(); ++k) {
      if (!removed[group.parent].empty() && removed[group.parent][k]) continue;
      if (first < 0) first = left[k];
      if (left[k] == 0 || left[k] != first) {
        fail(ErrorCode::kInvalidArgument,
             "[graph.cut] group '{}': {} query heads would be left for one head of keys, {} for "
             "another",
             group.name, first, left[k]);
      }
    }
  }
}

Graph Coupling::cut(const Graph& graph, const Removed& wanted, bool sizes_only) const {
  Removed removed = wanted;
  for (size_t g = 0; g < groups_.size() && removed.size() == groups_.size(); ++g) {
    const Group& group = groups_[g];
    if (group.parent < 0 || removed[group.parent].empty()) continue;
    removed[g].resize(group.units, false);
    for (int64_t i = 0; i < group.units; ++i)
      removed[g][i] = removed[g][i] || removed[group.parent][i / group.per_parent];
  }
  check(removed);
  const CouplingState& state = axes_->state;
  const auto goes = [&](UnitId unit) {
    for (const UnitId leaf : state.units.leaves(unit)) {
      const auto it = axes_->places.find(leaf);
      if (it == axes_->places.end()) continue;  // it is of no weight
      const std::vector<bool>& units = removed[it->second.group];
      if (!units.empty() && units[it->second.unit]) return true;
    }
    return false;
  };
  const Kept kept = kept_indices(state, goes);
  for (const auto& [place, indices] : kept) {
    if (!indices.empty()) continue;
    fail(ErrorCode::kInvalidArgument, "[graph.cut] nothing would be left of axis {} of '{}'",
         place.second, graph.value(place.first).name);
  }
  Graph result = graph;
  cut_weights(result, kept, sizes_only);
  for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes().size()); ++id) {
    const CouplingRule* rule = find_coupling_rule(graph.node(id));
    if (rule == nullptr || rule->cut == nullptr || !axes_->is_known(graph.node(id))) continue;
    CutContext context(result, id, state, kept);
    rule->cut(context);
  }
  check_shapes(graph, result, kept);
  return result;
}

}  // namespace packlight::graph

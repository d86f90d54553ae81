#include "graph/simplify/remove_no_ops.h"

#include <ATen/ATen.h>

#include <limits>
#include <unordered_map>

#include "graph/simplify/edit.h"
#include "graph/simplify/known.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

// Each returns the input that the node's output 0 equals, or kNone.
using NoOp = ValueId (*)(const Edit&, const Node&);

// As operators see it: weights of any float storage are F32 to them.
ElementType seen_type(const Graph& graph, ValueId id) {
  const Value& value = graph.value(id);
  return value.weight && is_float(value.type) ? ElementType::kF32 : value.type;
}

bool all_equal(const at::Tensor& tensor, double number) {
  return tensor.scalar_type() != at::kBool && at::eq(tensor, number).all().item<bool>();
}

ValueId identity(const Edit&, const Node& node) { return node.inputs[0]; }

ValueId dropout(const Edit& edit, const Node& node) {
  for (size_t i = 1; i < node.outputs.size(); ++i) {
    if (node.outputs[i] != kNone && edit.uses(node.outputs[i]) > 0) return kNone;
  }
  if (node.inputs.size() > 2 && node.inputs[2] != kNone) {
    const at::Tensor* training = dense_constant(edit.graph(), node.inputs[2]);
    if (training == nullptr || training->numel() != 1 || training->item().toBool()) return kNone;
  }
  return node.inputs[0];
}

ValueId cast(const Edit& edit, const Node& node) {
  const ElementType type = seen_type(edit.graph(), node.inputs[0]);
  const int64_t to = node.integer("to", 0);
  if (type == ElementType::kUndefined || to_onnx_type(type) != to) return kNone;
  return node.inputs[0];
}

// Input `data` when the other operand is `number` throughout and does not widen it.
ValueId neutral(const Edit& edit, const Node& node, size_t data, double number) {
  const ValueId other = node.inputs[1 - data];
  const at::Tensor* constant = dense_constant(edit.graph(), other);
  if (constant == nullptr || !broadcasts_into(edit.shape(other), edit.shape(node.inputs[data])))
    return kNone;
  return all_equal(*constant, number) ? node.inputs[data] : kNone;
}

template <int number>
ValueId neutral_second(const Edit& edit, const Node& node) {
  return neutral(edit, node, 0, number);
}

template <int number>
ValueId neutral_any(const Edit& edit, const Node& node) {
  const ValueId first = neutral(edit, node, 0, number);
  return first != kNone ? first : neutral(edit, node, 1, number);
}

ValueId pad(const Edit& edit, const Node& node) {
  const at::Tensor* pads = dense_constant(edit.graph(), node.inputs[1]);
  return pads != nullptr && all_equal(*pads, 0) ? node.inputs[0] : kNone;
}

ValueId slice(const Edit& edit, const Node& node) {
  const Graph& graph = edit.graph();
  const auto starts = constant_integers(graph, node.inputs[1]),
             ends = constant_integers(graph, node.inputs[2]);
  const auto given = [&](size_t i) { return node.inputs.size() > i && node.inputs[i] != kNone; };
  if (!starts || !ends || starts->size() != ends->size()) return kNone;
  const auto axes = given(3) ? constant_integers(graph, node.inputs[3]) : std::nullopt;
  const at::Tensor* steps = given(4) ? dense_constant(graph, node.inputs[4]) : nullptr;
  if ((given(3) && (!axes || axes->size() != starts->size())) ||
      (given(4) && (steps == nullptr || !all_equal(*steps, 1))))
    return kNone;
  const auto& shape = edit.shape(node.inputs[0]);
  for (size_t i = 0; i < starts->size(); ++i) {
    if ((*starts)[i] != 0) return kNone;
    if ((*ends)[i] >= std::numeric_limits<int32_t>::max()) continue;
    if (!shape) return kNone;
    int64_t axis = axes ? (*axes)[i] : static_cast<int64_t>(i);
    if (axis < 0) axis += static_cast<int64_t>(shape->size());
    if (axis < 0 || axis >= static_cast<int64_t>(shape->size()) || !(*shape)[axis].known() ||
        (*ends)[i] < (*shape)[axis].value)
      return kNone;
  }
  return node.inputs[0];
}

ValueId single(const Edit&, const Node& node) {
  return node.inputs.size() == 1 ? node.inputs[0] : kNone;
}

ValueId expand(const Edit& edit, const Node& node) {
  const bool stays = same(edit.shape(node.inputs[0]), edit.shape(node.outputs[0]));
  return stays ? node.inputs[0] : kNone;
}

const std::unordered_map<std::string_view, NoOp>& no_ops() {
  static const std::unordered_map<std::string_view, NoOp> table = {
      {"Identity", identity},
      {"Dropout", dropout},
      {"Cast", cast},
      {"Add", neutral_any<0>},
      {"Sub", neutral_second<0>},
      {"Mul", neutral_any<1>},
      {"Div", neutral_second<1>},
      {"Pad", pad},
      {"Slice", slice},
      {"Expand", expand},
      {"Concat", single},
      {"Sum", single},
      {"Max", single},
      {"Min", single},
      {"Mean", single},
  };
  return table;
}

}  // namespace

int remove_no_ops(Graph& graph, bool inference) {
  Edit edit(graph);
  int removed = 0;
  for (NodeId id = 0; id < edit.size(); ++id) {
    const Node& node = edit.node(id);
    const auto it = no_ops().find(node.op);
    if (edit.removed(id) || !node.domain.empty() || it == no_ops().end() ||
        (!inference && node.op == "Dropout"))
      continue;
    const ValueId same_value = it->second(edit, node);
    if (same_value != kNone) removed += edit.replace(node.outputs[0], same_value);
  }
  edit.finish();
  return removed;
}

}  // namespace packlight::graph

#include <ATen/ATen.h>

#include <algorithm>

#include "graph/simplify/edit.h"
#include "graph/simplify/known.h"
#include "graph/simplify/remove_no_ops.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

// Operators that keep the elements' order.
const Node* reshaping(const Edit& edit, ValueId value) {
  for (const char* op : {"Reshape", "Squeeze", "Unsqueeze", "Flatten"}) {
    if (const Node* node = edit.maker(value, op)) return node;
  }
  return nullptr;
}

// What a value was reshaped from, through as many nodes as lead to a value of the wanted shape.
ValueId reshaped_from(const Edit& edit, ValueId value) {
  const auto& wanted = edit.shape(value);
  const Node* node = reshaping(edit, value);
  while (node != nullptr) {
    if (same_reshaped(edit.shape(node->inputs[0]), wanted)) return node->inputs[0];
    node = reshaping(edit, node->inputs[0]);
  }
  return kNone;
}

// Reshape(Reshape(x)) -> Reshape(x), unless the target copies dimensions of what is between.
bool skip_reshape(Edit& edit, NodeId id) {
  const Node& node = edit.node(id);
  if (node.op != "Reshape") return false;
  const Node* before = reshaping(edit, node.inputs[0]);
  const auto target = constant_integers(edit.graph(), node.inputs[1]);
  if (before == nullptr || !target) return false;
  if (node.integer("allowzero", 0) == 0 &&
      std::find(target->begin(), target->end(), 0) != target->end())
    return false;
  edit.set_input(id, 0, before->inputs[0]);
  return true;
}

bool merge_reshape(Edit& edit, NodeId id) {
  const ValueId output = edit.node(id).outputs[0];
  if (reshaping(edit, output) == nullptr) return false;
  const ValueId from = reshaped_from(edit, output);
  if (from != kNone && edit.replace(output, from)) return true;
  return skip_reshape(edit, id);
}

bool merge_transpose(Edit& edit, NodeId id) {
  const Node& node = edit.node(id);
  const auto& shape = edit.shape(node.inputs[0]);
  if (node.op != "Transpose" || !shape) return false;
  const std::vector<int64_t> perm = permutation(node, shape->size());
  if (is_identity(perm)) return edit.replace(node.outputs[0], node.inputs[0]);
  const Node* before = edit.maker(node.inputs[0], "Transpose");
  if (before == nullptr) return false;
  const std::vector<int64_t> first = permutation(*before, shape->size());
  std::vector<int64_t> both;
  for (const int64_t axis : perm) both.push_back(first[axis]);
  if (is_identity(both) && edit.replace(node.outputs[0], before->inputs[0])) return true;
  edit.graph().node(id).attributes["perm"] = both;
  edit.set_input(id, 0, before->inputs[0]);
  return true;
}

}  // namespace

int merge_movement(Graph& graph) {
  Edit edit(graph);
  int changes = 0;
  for (NodeId id = 0; id < edit.size(); ++id) {
    if (edit.removed(id) || !edit.node(id).domain.empty()) continue;
    changes += merge_reshape(edit, id) || (!edit.removed(id) && merge_transpose(edit, id));
  }
  edit.finish();
  return changes;
}

}  // namespace packlight::graph

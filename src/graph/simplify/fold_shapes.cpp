#include "graph/simplify/fold_shapes.h"

#include <ATen/ATen.h>

#include "graph/operator_rules.h"
#include "graph/simplify/edit.h"
#include "graph/simplify/known.h"

namespace packlight::graph {
namespace {

at::Tensor integer_tensor(const std::vector<int64_t>& numbers, ElementType type) {
  const at::Tensor tensor = at::empty({static_cast<int64_t>(numbers.size())}, at::kLong);
  std::copy(numbers.begin(), numbers.end(), tensor.data_ptr<int64_t>());
  return tensor.to(type == ElementType::kI32 ? at::kInt : at::kLong);
}

bool fold_value(Edit& edit, ValueId id, const InferContext::Elements& elements) {
  const auto known = all_numbers(elements);
  if (!known) return false;
  const std::vector<int64_t>& numbers = *known;
  const Value& value = edit.graph().value(id);
  const bool integer = value.type == ElementType::kI64 || value.type == ElementType::kI32;
  if (!integer || value.weight || value.producer < 0 || !value.shape || value.shape->size() > 1)
    return false;
  const Node& node = edit.node(value.producer);
  if (node.outputs.size() != 1) return false;
  at::Tensor tensor = integer_tensor(numbers, value.type);
  if (value.shape->empty()) {
    if (numbers.size() != 1) return false;
    tensor = tensor.reshape({});
  }
  edit.remove(value.producer);
  hold(edit.graph(), id, tensor);
  return true;
}

// The target with 0 where it copies the input's dimension and -1 at the one element that is left;
// nothing when more are left.
std::optional<std::vector<int64_t>> target(const InferContext::Elements& elements,
                                           const std::optional<Shape>& input, bool copies) {
  std::vector<int64_t> numbers;
  std::vector<size_t> open;
  for (size_t i = 0; i < elements.size(); ++i) {
    numbers.push_back(elements[i].number.value_or(-1));
    if (numbers.back() == -1) open.push_back(i);
    if (numbers.back() == 0 && !copies) return std::nullopt;  // beside it a -1 would mean nothing
  }
  if (open.size() > 1 && copies && input) {
    std::erase_if(open, [&](size_t i) {
      if (open.size() == 1 || i >= input->size() || elements[i].number ||
          !same(elements[i].dim(), (*input)[i]))
        return false;
      numbers[i] = 0;
      return true;
    });
  }
  if (open.size() > 1) return std::nullopt;
  return numbers;
}

bool rewrite_reshape(Edit& edit, NodeId id, const InferContext::Contents& contents) {
  const Node& node = edit.node(id);
  if (node.op != "Reshape" || !node.domain.empty() || edit.graph().value(node.inputs[1]).weight)
    return false;
  const auto it = contents.find(node.inputs[1]);
  if (it == contents.end()) return false;
  const auto numbers =
      target(it->second, edit.shape(node.inputs[0]), node.integer("allowzero", 0) == 0);
  if (!numbers) return false;
  edit.set_weight(id, 1, integer_tensor(*numbers, ElementType::kI64), node.name + ".shape");
  return true;
}

}  // namespace

int fold_shapes(Graph& graph) {
  const InferContext::Contents contents = infer_contents(graph);
  Edit edit(graph);
  int changes = 0;
  for (const auto& [id, elements] : contents) changes += fold_value(edit, id, elements);
  for (NodeId id = 0; id < edit.size(); ++id) {
    if (!edit.removed(id)) changes += rewrite_reshape(edit, id, contents);
  }
  edit.finish();
  return changes;
}

}  // namespace packlight::graph

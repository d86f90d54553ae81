#include "graph/simplify/edit.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graph/weight.h"

namespace packlight::graph {

Edit::Edit(Graph& graph)
    : graph_(graph), users_(graph.values().size()), removed_(graph.nodes().size(), false) {
  for (NodeId id = 0; id < size(); ++id) {
    for (const ValueId input : graph_.node(id).inputs) add_use(input, id);
  }
}

const Node* Edit::maker(ValueId value, std::string_view op) const {
  if (value == kNone || producer(value) < 0) return nullptr;
  const Node& node = graph_.node(producer(value));
  return node.op == op && node.domain.empty() ? &node : nullptr;
}

bool Edit::is_output(ValueId value) const {
  return std::find(graph_.outputs.begin(), graph_.outputs.end(), value) != graph_.outputs.end();
}

int Edit::uses(ValueId value) const {
  const auto as_output = std::count(graph_.outputs.begin(), graph_.outputs.end(), value);
  const auto by_nodes = static_cast<size_t>(value) < users_.size() ? users_[value].size() : 0;
  return static_cast<int>(by_nodes + as_output);
}

std::optional<NodeId> Edit::only_user(ValueId value) const {
  if (value == kNone || uses(value) != 1 || is_output(value)) return std::nullopt;
  return users_[value][0];
}

void Edit::add_use(ValueId value, NodeId user) {
  if (value == kNone) return;
  if (static_cast<size_t>(value) >= users_.size()) users_.resize(value + 1);
  users_[value].push_back(user);
}

void Edit::drop_use(ValueId value, NodeId user) {
  if (value == kNone) return;
  std::vector<NodeId>& users = users_[value];
  users.erase(std::find(users.begin(), users.end(), user));
  const NodeId made_by = producer(value);
  if (uses(value) > 0 || made_by < 0 || removed_[made_by]) return;
  const std::vector<ValueId>& outputs = graph_.node(made_by).outputs;
  const bool wanted = std::any_of(outputs.begin(), outputs.end(),
                                  [&](ValueId id) { return id != kNone && uses(id) > 0; });
  if (!wanted) remove(made_by);
}

void Edit::drop_inputs(NodeId id) {
  const std::vector<ValueId> inputs = std::move(graph_.node(id).inputs);
  graph_.node(id).inputs.clear();
  for (const ValueId input : inputs) drop_use(input, id);
}

void Edit::remove(NodeId id) {
  if (removed_[id]) return;
  removed_[id] = true;
  for (const ValueId output : graph_.node(id).outputs) {
    if (output != kNone && producer(output) == id) graph_.value(output).producer = -1;
  }
  drop_inputs(id);
}

bool Edit::rename(ValueId old, ValueId by) {
  const NodeId first = producer(by), last = producer(old);
  if (first < 0 || is_output(by)) return false;
  for (const ValueId output : graph_.node(last).outputs) {
    if (output != kNone && output != old && uses(output) > 0) return false;
  }
  if (!graph_.value(old).shape) graph_.value(old).shape = graph_.value(by).shape;
  std::vector<ValueId>& outputs = graph_.node(first).outputs;
  std::replace(outputs.begin(), outputs.end(), by, old);
  for (const NodeId user : std::exchange(users_[by], {})) {
    std::vector<ValueId>& inputs = graph_.node(user).inputs;
    *std::find(inputs.begin(), inputs.end(), by) = old;
    add_use(old, user);
  }
  graph_.value(old).producer = first;
  graph_.value(by).producer = -1;
  remove(last);
  return true;
}

bool Edit::replace(ValueId old, ValueId by) {
  if (is_output(old)) return rename(old, by);
  const NodeId last = producer(old);
  for (const NodeId user : std::exchange(users_[old], {})) {
    std::vector<ValueId>& inputs = graph_.node(user).inputs;
    *std::find(inputs.begin(), inputs.end(), old) = by;
    add_use(by, user);
  }
  if (last < 0) return true;
  const std::vector<ValueId>& outputs = graph_.node(last).outputs;
  const bool wanted = std::any_of(outputs.begin(), outputs.end(),
                                  [&](ValueId id) { return id != kNone && uses(id) > 0; });
  if (!wanted) remove(last);
  return true;
}

void Edit::put(NodeId at, Node node) {
  for (const ValueId input : node.inputs) add_use(input, at);
  for (const ValueId output : graph_.node(at).outputs) {
    if (output != kNone && producer(output) == at) graph_.value(output).producer = -1;
  }
  for (const ValueId output : node.outputs) {
    if (output != kNone) graph_.value(output).producer = at;
  }
  removed_[at] = false;
  const std::vector<ValueId> before = std::move(graph_.node(at).inputs);
  graph_.node(at) = std::move(node);
  for (const ValueId input : before) drop_use(input, at);
}

void Edit::set_input(NodeId id, size_t input, ValueId value) {
  std::vector<ValueId>& inputs = graph_.node(id).inputs;
  if (inputs.size() <= input) inputs.resize(input + 1, kNone);
  add_use(value, id);
  drop_use(std::exchange(inputs[input], value), id);
}

void Edit::take_over(NodeId by, NodeId last) {
  const ValueId result = graph_.node(last).outputs[0];
  graph_.value(graph_.node(by).outputs[0]).producer = -1;
  graph_.node(by).outputs[0] = result;
  graph_.value(result).producer = by;
  remove(last);
}

void Edit::set_weight(NodeId id, size_t input, at::Tensor tensor, const std::string& base) {
  const std::vector<ValueId>& inputs = graph_.node(id).inputs;
  const ValueId present = input < inputs.size() ? inputs[input] : kNone;
  if (present != kNone && uses(present) == 1 && graph_.value(present).weight) {
    hold(graph_, present, tensor);
    return;
  }
  set_input(id, input, graph_.add_weight(graph_.free_name(base), tensor.contiguous()));
}

int Edit::finish() {
  std::vector<Node> kept;
  for (NodeId id = 0; id < size(); ++id) {
    if (!removed_[id]) kept.push_back(graph_.node(id));
  }
  const auto before = static_cast<int>(graph_.nodes().size());
  graph_.replace_nodes(std::move(kept));
  graph_.remove_unused();
  return before - static_cast<int>(graph_.nodes().size());
}

void hold(Graph& graph, ValueId id, const at::Tensor& tensor) {
  Value& value = graph.value(id);
  value.type = from_scalar_type(tensor.scalar_type());
  value.shape.emplace();
  for (const int64_t size : tensor.sizes()) value.shape->push_back(size);
  value.weight = tensor.contiguous();
  value.producer = -1;
}

}  // namespace packlight::graph

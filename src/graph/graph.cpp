#include "graph/graph.h"

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "base/fail.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

// The attribute as a T. Errors: Corrupt when it is there with another type.
template <class T>
const T* typed(const Node& node, std::string_view attribute, const char* wanted) {
  const auto it = node.attributes.find(std::string(attribute));
  if (it == node.attributes.end()) return nullptr;
  const T* value = std::get_if<T>(&it->second);
  if (value == nullptr) {
    fail(ErrorCode::kCorrupt, "[graph] node '{}' ({}): attribute '{}' is not {}", node.name,
         node.op, attribute, wanted);
  }
  return value;
}

}  // namespace

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    const Dim& dim = shape[i];
    text += dim.known() ? std::to_string(dim.value) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text + "]";
}

int64_t Node::integer(std::string_view attribute, int64_t fallback) const {
  const auto* value = typed<int64_t>(*this, attribute, "an integer");
  return value != nullptr ? *value : fallback;
}

double Node::number(std::string_view attribute, double fallback) const {
  const auto it = attributes.find(std::string(attribute));
  if (it != attributes.end() && std::holds_alternative<int64_t>(it->second)) {
    return static_cast<double>(std::get<int64_t>(it->second));
  }
  const auto* value = typed<double>(*this, attribute, "a number");
  return value != nullptr ? *value : fallback;
}

std::string Node::text(std::string_view attribute, std::string_view fallback) const {
  const auto* value = typed<std::string>(*this, attribute, "a string");
  return value != nullptr ? *value : std::string(fallback);
}

std::vector<int64_t> Node::integers(std::string_view attribute) const {
  const auto* value = typed<std::vector<int64_t>>(*this, attribute, "a list of integers");
  return value != nullptr ? *value : std::vector<int64_t>{};
}

ValueId Graph::add_value(Value value) {
  const auto id = static_cast<ValueId>(values_.size());
  if (value.name.empty())
    fail(ErrorCode::kInvalidArgument, "[graph] '{}': a value needs a name", name);
  if (!by_name_.emplace(value.name, id).second) {
    fail(ErrorCode::kInvalidArgument, "[graph] '{}': the value name '{}' is taken", name,
         value.name);
  }
  values_.push_back(std::move(value));
  return id;
}

ValueId Graph::add_weight(std::string weight_name, Weight weight) {
  Value value;
  value.name = std::move(weight_name);
  value.type = weight_type(weight);
  value.shape.emplace();
  for (const int64_t size : weight_shape(weight)) value.shape->push_back(size);
  value.weight = std::move(weight);
  return add_value(std::move(value));
}

ValueId Graph::add_input(std::string input_name, ElementType type, Shape shape) {
  Value value;
  value.name = std::move(input_name);
  value.type = type;
  value.shape = std::move(shape);
  const ValueId id = add_value(std::move(value));
  inputs.push_back(id);
  return id;
}

std::vector<ValueId> Graph::add_node(std::string op, std::string node_name,
                                     std::vector<ValueId> node_inputs,
                                     std::vector<std::string> output_names,
                                     std::map<std::string, Attribute> attributes,
                                     std::string block) {
  for (const ValueId id : node_inputs) {
    if (id < kNone || id >= static_cast<ValueId>(values_.size())) {
      fail(ErrorCode::kInvalidArgument, "[graph] node '{}' ({}): input id {} is no value",
           node_name, op, id);
    }
  }
  const auto node_id = static_cast<NodeId>(nodes_.size());
  Node node;
  for (std::string& output_name : output_names) {
    if (output_name.empty()) {  // an optional output that is not wanted
      node.outputs.push_back(kNone);
      continue;
    }
    Value value;
    value.name = std::move(output_name);
    value.producer = node_id;
    node.outputs.push_back(add_value(std::move(value)));
  }
  node.name = std::move(node_name);
  node.op = std::move(op);
  node.inputs = std::move(node_inputs);
  node.attributes = std::move(attributes);
  node.block = std::move(block);
  nodes_.push_back(std::move(node));
  return nodes_.back().outputs;
}

std::optional<ValueId> Graph::find(std::string_view value_name) const {
  const auto it = by_name_.find(std::string(value_name));
  if (it == by_name_.end()) return std::nullopt;
  return it->second;
}

std::string Graph::free_name(const std::string& base) const {
  std::string candidate = base;
  for (int i = 2; by_name_.count(candidate) != 0; ++i) candidate = base + "_" + std::to_string(i);
  return candidate;
}

void Graph::replace_nodes(std::vector<Node> nodes) {
  for (Value& value : values_) value.producer = -1;
  nodes_ = std::move(nodes);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (const ValueId output : nodes_[i].outputs) {
      if (output != kNone) values_[output].producer = static_cast<NodeId>(i);
    }
  }
}

void Graph::remove_unused() {
  std::vector<bool> used(values_.size(), false);
  for (const ValueId id : outputs) used[id] = true;
  std::vector<Node> kept;
  for (size_t i = nodes_.size(); i-- > 0;) {
    Node& node = nodes_[i];
    const bool wanted = std::any_of(node.outputs.begin(), node.outputs.end(),
                                    [&](ValueId id) { return id != kNone && used[id]; });
    if (!wanted) continue;
    for (const ValueId input : node.inputs) {
      if (input != kNone) used[input] = true;
    }
    kept.push_back(std::move(node));
  }
  std::reverse(kept.begin(), kept.end());
  for (const Node& node : kept) {
    for (const ValueId output : node.outputs) {
      if (output != kNone) used[output] = true;
    }
  }
  for (const ValueId id : inputs) used[id] = true;

  std::vector<ValueId> renumbered(values_.size(), kNone);
  std::vector<Value> values;
  by_name_.clear();
  for (size_t i = 0; i < values_.size(); ++i) {
    if (!used[i]) continue;
    renumbered[i] = static_cast<ValueId>(values.size());
    by_name_.emplace(values_[i].name, renumbered[i]);
    values.push_back(std::move(values_[i]));
  }
  values_ = std::move(values);
  const auto renumber = [&](std::vector<ValueId>& ids) {
    for (ValueId& id : ids) {
      if (id != kNone) id = renumbered[id];
    }
  };
  renumber(inputs);
  renumber(outputs);
  for (Node& node : kept) {
    renumber(node.inputs);
    renumber(node.outputs);
  }
  replace_nodes(std::move(kept));
}

}  // namespace packlight::graph

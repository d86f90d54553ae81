#include <unordered_set>

#include "base/fail.h"
#include "graph/operator_rules.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph), made_(graph.values().size(), false) {}

  void run() {
    check_values();
    check_inputs();
    for (NodeId id = 0; id < static_cast<NodeId>(graph_.nodes().size()); ++id) check_node(id);
    for (const ValueId id : graph_.outputs) {
      check_id(id, "graph output");
      if (!made_[id]) broken("graph output '{}' is made by no node", graph_.value(id).name);
    }
  }

 private:
  template <class... Args>
  [[noreturn]] void broken(fmt::format_string<Args...> text, Args&&... args) const {
    fail(ErrorCode::kCorrupt, "[graph] '{}': {}", graph_.name,
         fmt::format(text, std::forward<Args>(args)...));
  }

  void check_id(ValueId id, std::string_view where) const {
    if (id < 0 || id >= static_cast<ValueId>(graph_.values().size()))
      broken("{}: id {} is no value", where, id);
  }

  void check_values() {
    std::unordered_set<std::string_view> names;
    for (size_t i = 0; i < graph_.values().size(); ++i) {
      const Value& value = graph_.values()[i];
      if (value.name.empty()) broken("value {} has no name", i);
      if (!names.insert(value.name).second) broken("two values are named '{}'", value.name);
      if (graph_.find(value.name) != std::optional<ValueId>(static_cast<ValueId>(i))) {
        broken("value '{}' was renamed behind the graph's index", value.name);
      }
      if (value.weight) check_weight(value);
      made_[i] = value.weight.has_value();
    }
  }

  void check_weight(const Value& value) const {
    if (value.producer >= 0) broken("weight '{}' is also the output of a node", value.name);
    if (const auto* tensor = std::get_if<at::Tensor>(&*value.weight);
        tensor != nullptr && !tensor->defined()) {
      broken("weight '{}' holds no tensor", value.name);
    }
    if (const auto* encoded = std::get_if<codec::EncodedTensor>(&*value.weight)) {
      codec::check_sizes(*encoded, value.name);
    }
    const ElementType type = weight_type(*value.weight);
    if (value.type != type) {
      broken("weight '{}' is declared {} but holds {}", value.name, element_type_name(value.type),
             element_type_name(type));
    }
    Shape shape;
    for (const int64_t size : weight_shape(*value.weight)) shape.push_back(size);
    if (!value.shape || *value.shape != shape) {
      broken("weight '{}' is declared {} but holds {}", value.name,
             value.shape ? to_string(*value.shape) : "no shape", to_string(shape));
    }
  }

  void check_inputs() {
    for (const ValueId id : graph_.inputs) {
      check_id(id, "graph input");
      const Value& value = graph_.value(id);
      if (value.producer >= 0) broken("graph input '{}' is also the output of a node", value.name);
      if (made_[id] && !value.weight) broken("graph input '{}' is listed twice", value.name);
      made_[id] = true;
    }
  }

  void check_node(NodeId id) {
    const Node& node = graph_.node(id);
    if (node.name.empty()) broken("node {} ({}) has no name", id, node.op);
    if (!node_names_.insert(node.name).second) broken("two nodes are named '{}'", node.name);
    const OperatorRule* rule = find_rule(node.op, node.domain);
    if (rule != nullptr) check_counts(node, *rule);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == kNone) {
        if (rule != nullptr && static_cast<int>(i) < rule->min_inputs) {
          broken("node '{}' ({}): input {} may not be absent", node.name, node.op, i);
        }
        continue;
      }
      check_id(node.inputs[i], node.name);
      if (!made_[node.inputs[i]]) {
        broken("node '{}' ({}): input '{}' is used before it is made", node.name, node.op,
               graph_.value(node.inputs[i]).name);
      }
    }
    for (const ValueId output : node.outputs) check_output(node, id, output);
  }

  void check_counts(const Node& node, const OperatorRule& rule) const {
    const auto inputs = static_cast<int>(node.inputs.size()),
               outputs = static_cast<int>(node.outputs.size());
    if (inputs < rule.min_inputs || inputs > rule.max_inputs) {
      broken("node '{}' ({}): {} inputs, the operator takes {} to {}", node.name, node.op, inputs,
             rule.min_inputs, rule.max_inputs);
    }
    if (outputs < rule.min_outputs || outputs > rule.max_outputs) {
      broken("node '{}' ({}): {} outputs, the operator makes {} to {}", node.name, node.op, outputs,
             rule.min_outputs, rule.max_outputs);
    }
  }

  void check_output(const Node& node, NodeId id, ValueId output) {
    if (output == kNone) return;
    check_id(output, node.name);
    const Value& value = graph_.value(output);
    if (made_[output])
      broken("node '{}' ({}): output '{}' is made twice", node.name, node.op, value.name);
    if (value.producer != id) {
      broken("node '{}' ({}): output '{}' names node {} as its producer", node.name, node.op,
             value.name, value.producer);
    }
    made_[output] = true;
  }

  const Graph& graph_;
  std::vector<bool> made_;  // by value: exists when the node at hand runs
  std::unordered_set<std::string_view> node_names_;
};

}  // namespace

void verify(const Graph& graph) { Verifier(graph).run(); }

}  // namespace packlight::graph

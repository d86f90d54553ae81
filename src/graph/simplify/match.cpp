#include "graph/simplify/match.h"

#include "graph/simplify/known.h"

namespace packlight::graph {
namespace {

void collect(const Edit& edit, const Node& mul, int limit, std::vector<ValueId>& found) {
  for (const ValueId input : mul.inputs) {
    const Node* nested = limit > 0 ? inner(edit, input, "Mul") : nullptr;
    if (nested != nullptr) {
      collect(edit, *nested, limit - 1, found);
    } else {
      found.push_back(input);
    }
  }
}

}  // namespace

const Node* inner(const Edit& edit, ValueId value, std::string_view op) {
  const Node* node = edit.maker(value, op);
  return node != nullptr && edit.internal(value) ? node : nullptr;
}

std::optional<WithNumber> with_number(const Edit& edit, const Node& node) {
  if (node.inputs.size() != 2) return std::nullopt;
  for (size_t i = 0; i < 2; ++i) {
    const auto number = scalar_constant(edit.graph(), node.inputs[1 - i]);
    if (number) return WithNumber{node.inputs[i], *number};
  }
  return std::nullopt;
}

std::optional<WithNumber> scaling(const Edit& edit, const Node& node) {
  if (!node.domain.empty()) return std::nullopt;
  if (node.op == "Mul") return with_number(edit, node);
  if (node.op != "Div") return std::nullopt;
  const auto number = scalar_constant(edit.graph(), node.inputs[1]);
  if (!number || *number == 0) return std::nullopt;
  return WithNumber{node.inputs[0], 1 / *number};
}

std::vector<ValueId> factors(const Edit& edit, ValueId value, int limit) {
  const Node* mul = edit.maker(value, "Mul");
  if (mul == nullptr) return {value};
  std::vector<ValueId> found;
  collect(edit, *mul, limit, found);
  return found;
}

Product product(const Edit& edit, const Node& mul) {
  Product result;
  for (const ValueId factor : factors(edit, mul.outputs[0])) {
    const auto number = scalar_constant(edit.graph(), factor);
    if (number) {
      result.number *= *number;
    } else {
      result.values.push_back(factor);
    }
  }
  return result;
}

void fuse(Edit& edit, NodeId last, std::string op, std::vector<ValueId> inputs,
          std::map<std::string, Attribute> attributes) {
  Node node = edit.node(last);
  node.op = std::move(op);
  node.domain.clear();
  node.inputs = std::move(inputs);
  node.attributes = std::move(attributes);
  node.outputs.resize(1);
  edit.put(last, std::move(node));
}

int fuse_everywhere(Graph& graph, bool (*fuse_at)(Edit&, NodeId)) {
  Edit edit(graph);
  int fused = 0;
  for (NodeId id = 0; id < edit.size(); ++id) {
    if (!edit.removed(id) && edit.node(id).domain.empty()) fused += fuse_at(edit, id);
  }
  edit.finish();
  return fused;
}

}  // namespace packlight::graph

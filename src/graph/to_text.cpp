#include <fmt/format.h>

#include <iterator>

#include "graph/weight.h"

namespace packlight::graph {
namespace {

std::string shape_text(const Value& value) {
  return value.shape ? to_string(*value.shape) : "[...]";
}

std::string value_text(const Graph& graph, ValueId id) {
  if (id == kNone) return "-";
  const Value& value = graph.value(id);
  if (value.weight)
    return fmt::format("{}:{}{}", value.name, weight_format_name(*value.weight), shape_text(value));
  return value.name;
}

template <class T>
std::string list_text(const std::vector<T>& items) {
  return fmt::format("[{}]", fmt::join(items, ", "));
}

std::string attribute_text(const Attribute& attribute) {
  struct Visitor {
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return fmt::format("{}", v); }
    std::string operator()(const std::string& v) const { return '"' + v + '"'; }
    std::string operator()(const std::vector<int64_t>& v) const { return list_text(v); }
    std::string operator()(const std::vector<double>& v) const { return list_text(v); }
    std::string operator()(const std::vector<std::string>& v) const { return list_text(v); }
    std::string operator()(const at::Tensor& v) const {
      return fmt::format("tensor[{}]", fmt::join(v.sizes().begin(), v.sizes().end(), ", "));
    }
    std::string operator()(const std::shared_ptr<Graph>& v) const {
      return fmt::format("graph '{}' of {} nodes", v ? v->name : "", v ? v->nodes().size() : 0);
    }
  };
  return std::visit(Visitor{}, attribute);
}

void append_node(const Graph& graph, const Node& node, std::string& text) {
  auto out = std::back_inserter(text);
  fmt::format_to(out, "  {} = {}{}{}(", node.name, node.domain, node.domain.empty() ? "" : ".",
                 node.op);
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    fmt::format_to(out, "{}{}", i > 0 ? ", " : "", value_text(graph, node.inputs[i]));
  }
  for (const auto& [name, attribute] : node.attributes) {
    fmt::format_to(out, "; {}={}", name, attribute_text(attribute));
  }
  text += ')';
  if (node.input_quant == ActivationQuant::kInt8PerToken32)
    text += " input_quant=int8_per_token_32";
  text += " ->";
  for (const ValueId id : node.outputs) {
    if (id == kNone) {
      text += " -";
      continue;
    }
    const Value& value = graph.value(id);
    fmt::format_to(out, " {}:{}{}", value.name, element_type_name(value.type), shape_text(value));
  }
  text += '\n';
}

}  // namespace

std::string to_text(const Graph& graph) {
  std::string text = fmt::format("graph '{}'\n", graph.name);
  auto out = std::back_inserter(text);
  for (const ValueId id : graph.inputs) {
    const Value& value = graph.value(id);
    fmt::format_to(out, "input {}:{}{}\n", value.name, element_type_name(value.type),
                   shape_text(value));
  }
  for (const BlockRange& block : blocks(graph)) {
    if (!block.name.empty()) fmt::format_to(out, "block {}\n", block.name);
    for (NodeId id = block.begin; id < block.end; ++id) append_node(graph, graph.node(id), text);
  }
  for (const ValueId id : graph.outputs) {
    const Value& value = graph.value(id);
    fmt::format_to(out, "output {}:{}{}\n", value.name, element_type_name(value.type),
                   shape_text(value));
  }
  return text;
}

}  // namespace packlight::graph

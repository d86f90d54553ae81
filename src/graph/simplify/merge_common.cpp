#include "graph/simplify/merge_common.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/hash.h"
#include "graph/simplify/edit.h"
#include "graph/simplify/known.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

constexpr std::array<std::string_view, 7> kRandom = {
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    "Multinomial",  "Bernoulli",        "Dropout"};

std::string tensor_key(const at::Tensor& tensor) {
  if (!tensor.defined()) return "none";
  const at::Tensor packed = tensor.contiguous();
  const auto* bytes = static_cast<const std::byte*>(packed.data_ptr());
  return fmt::format("{}[{}]{}", c10::toString(packed.scalar_type()),
                     fmt::join(packed.sizes().begin(), packed.sizes().end(), ","),
                     base::hex64(base::hash64({bytes, packed.nbytes()})));
}

// Text that two attributes share only when they are equal; empty for a subgraph.
std::string attribute_key(const Attribute& attribute) {
  struct Visitor {
    std::string operator()(int64_t v) const { return fmt::format("i{}", v); }
    std::string operator()(double v) const { return fmt::format("f{:a}", v); }
    std::string operator()(const std::string& v) const {
      return fmt::format("s{}:{}", v.size(), v);
    }
    std::string operator()(const std::vector<int64_t>& v) const {
      return fmt::format("I{}", fmt::join(v, ","));
    }
    std::string operator()(const std::vector<double>& v) const {
      std::string text = "F";
      for (const double number : v) text += fmt::format("{:a},", number);
      return text;
    }
    std::string operator()(const std::vector<std::string>& v) const {
      std::string text = "S";
      for (const std::string& item : v) text += fmt::format("{}:{}", item.size(), item);
      return text;
    }
    std::string operator()(const at::Tensor& v) const { return "t" + tensor_key(v); }
    std::string operator()(const std::shared_ptr<Graph>&) const { return ""; }
  };
  return std::visit(Visitor{}, attribute);
}

// Empty for a node that is like no other.
std::string node_key(const Node& node) {
  if (std::find(kRandom.begin(), kRandom.end(), node.op) != kRandom.end()) return "";
  std::string key = fmt::format("{}.{}({}){}q{}", node.domain, node.op, fmt::join(node.inputs, ","),
                                node.outputs.size(), static_cast<int>(node.input_quant));
  for (const auto& [name, attribute] : node.attributes) {
    const std::string value = attribute_key(attribute);
    if (value.empty()) return "";
    key += fmt::format(";{}={}", name, value);
  }
  return key;
}

bool mergeable(const at::Tensor& tensor, bool merge_parameters) {
  return tensor.defined() &&
         (!tensor.is_floating_point() || tensor.numel() == 1 || merge_parameters);
}

bool merge(Edit& edit, const Node& first, const Node& second) {
  const std::vector<ValueId> kept = first.outputs, dropped = second.outputs;
  for (size_t i = 0; i < kept.size(); ++i) {  // all or none
    if ((kept[i] == kNone) != (dropped[i] == kNone)) return false;
    if (kept[i] != kNone && edit.is_output(dropped[i]) &&
        (edit.is_output(kept[i]) || kept.size() > 1))
      return false;
  }
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i] != kNone) edit.replace(dropped[i], kept[i]);
  }
  return true;
}

}  // namespace

int merge_weights(Graph& graph, bool merge_parameters) {
  Edit edit(graph);
  std::unordered_map<std::string, ValueId> seen;
  int merged = 0;
  for (ValueId id = 0; id < static_cast<ValueId>(graph.values().size()); ++id) {
    const at::Tensor* tensor = dense_constant(graph, id);
    const bool is_input =
        std::find(graph.inputs.begin(), graph.inputs.end(), id) != graph.inputs.end();
    if (tensor == nullptr || is_input || edit.is_output(id) || edit.uses(id) == 0 ||
        !mergeable(*tensor, merge_parameters))
      continue;
    const auto [it, is_new] = seen.emplace(tensor_key(*tensor), id);
    if (is_new) continue;
    edit.replace(id, it->second);
    ++merged;
  }
  edit.finish();
  return merged;
}

int merge_nodes(Graph& graph) {
  Edit edit(graph);
  std::unordered_map<std::string, NodeId> seen;
  int merged = 0;
  for (NodeId id = 0; id < edit.size(); ++id) {
    if (edit.removed(id)) continue;
    const std::string key = node_key(edit.node(id));
    if (key.empty()) continue;
    const auto [it, is_new] = seen.emplace(key, id);
    if (!is_new) merged += merge(edit, edit.node(it->second), edit.node(id));
  }
  edit.finish();
  return merged;
}

}  // namespace packlight::graph

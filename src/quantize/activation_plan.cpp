#include "quantize/activation_plan.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

ActivationPlan plan_inputs(const Graph& graph, const std::vector<NetworkLayer>& layers) {
  ActivationPlan plan;
  std::map<std::pair<ValueId, int>, size_t> known;
  for (const NetworkLayer& layer : layers) {
    const int bits = layer.precision.activation_bits;
    if (bits == 0) continue;
    for (const size_t input : layer.activation_inputs) {
      const ValueId value = graph.node(layer.node).inputs[input];
      const auto [it, added] = known.emplace(std::pair(value, bits), plan.pairs.size());
      if (added) {
        plan.pairs.push_back({value, static_cast<int>(plan.group_bits.size())});
        plan.group_bits.push_back(bits);
      }
      plan.readers[{layer.node, input}] = it->second;
    }
  }
  return plan;
}

// How an operator treats codes that come in.
enum class Flow {
  kNone,   // computes in float
  kFirst,  // hands the elements of its first input on, or what is between them
  kAll,    // ... of all its inputs
  kSum     // adds its two inputs
};

Flow flow_of(const Node& node) {
  static const std::set<std::string_view> first = {
      "MaxPool", "AveragePool",  "GlobalAveragePool", "GlobalMaxPool", "Reshape", "Transpose",
      "Flatten", "Squeeze",      "Unsqueeze",         "Slice",         "Split",   "Identity",
      "Gather",  "DepthToSpace", "SpaceToDepth",      "Expand",        "Tile"};
  if (!node.domain.empty()) return Flow::kNone;
  if (first.count(node.op) != 0) return Flow::kFirst;
  if (node.op == "Resize" && node.text("mode", "nearest") == "nearest") return Flow::kFirst;
  if (node.op == "Pad" && node.text("mode", "constant") != "constant") return Flow::kFirst;
  if (node.op == "Concat") return Flow::kAll;
  return node.op == "Add" ? Flow::kSum : Flow::kNone;
}

class Regions {
 public:
  Regions(const Graph& graph, const std::vector<NetworkLayer>& layers)
      : graph_(graph),
        parent_(graph.values().size()),
        bits_(graph.values().size(), 0),
        uses_(graph.values().size(), 0),
        user_(graph.values().size(), -1) {
    std::iota(parent_.begin(), parent_.end(), 0);
    for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes().size()); ++id) {
      for (const ValueId input : graph.node(id).inputs)
        if (input != graph::kNone) ++uses_[input], user_[input] = id;
    }
    for (const NetworkLayer& layer : layers) {
      const int bits = layer.precision.activation_bits;
      if (bits == 0) continue;
      for (const size_t input : layer.activation_inputs)
        add(graph.node(layer.node).inputs[input], bits);
      add(behind_activation(graph.node(layer.node).outputs.at(0)), bits);
    }
    while (spread()) {
    }
  }

  ActivationPlan plan() {
    ActivationPlan plan;
    std::map<ValueId, int> groups;
    std::map<ValueId, size_t> pairs;
    for (ValueId id = 0; id < static_cast<ValueId>(bits_.size()); ++id) {
      if (bits_[id] == 0) continue;
      const auto [group, added] =
          groups.emplace(root(id), static_cast<int>(plan.group_bits.size()));
      if (added) plan.group_bits.push_back(0);
      int& bits = plan.group_bits[group->second];
      bits = std::max(bits, bits_[id]);
      pairs[id] = plan.pairs.size();
      plan.pairs.push_back({id, group->second});
    }
    for (NodeId id = 0; id < static_cast<NodeId>(graph_.nodes().size()); ++id) {
      const Node& node = graph_.node(id);
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const auto it = pairs.find(node.inputs[i]);
        const bool captured = i + node.captures >= node.inputs.size() && node.captures > 0;
        if (it != pairs.end() && !captured) plan.readers[{id, i}] = it->second;
      }
    }
    return plan;
  }

 private:
  // A value that may hold codes: float, made or given at run time, and read by a node.
  bool holds_codes(ValueId id) const {
    return id != graph::kNone && !graph_.value(id).weight && uses_[id] > 0 &&
           graph_.value(id).type == graph::ElementType::kF32;
  }

  bool add(ValueId id, int bits) {
    if (!holds_codes(id) || bits_[id] >= bits) return false;
    bits_[id] = bits;
    return true;
  }

  // A Relu or Clip that alone reads what a layer makes is computed together with it.
  ValueId behind_activation(ValueId id) const {
    const bool is_output =
        std::find(graph_.outputs.begin(), graph_.outputs.end(), id) != graph_.outputs.end();
    if (uses_[id] != 1 || is_output) return id;
    const Node& user = graph_.node(user_[id]);
    const bool fused = user.domain.empty() && (user.op == "Relu" || user.op == "Clip");
    return fused && user.inputs[0] == id ? user.outputs[0] : id;
  }

  ValueId root(ValueId id) {
    while (parent_[id] != id) id = parent_[id] = parent_[parent_[id]];
    return id;
  }

  // Values that share a scale once one of them holds codes.
  std::vector<ValueId> sharing(const Node& node, Flow flow) const {
    std::vector<ValueId> values;
    const size_t inputs = flow == Flow::kFirst ? 1 : node.inputs.size();
    for (size_t i = 0; i < inputs; ++i)
      if (holds_codes(node.inputs[i])) values.push_back(node.inputs[i]);
    if (flow == Flow::kSum) return values;
    for (const ValueId output : node.outputs)
      if (holds_codes(output)) values.push_back(output);
    return values;
  }

  bool join(const std::vector<ValueId>& values, int bits) {
    bool changed = false;
    for (const ValueId id : values) {
      changed = add(id, bits) || changed;
      const ValueId a = root(id), b = root(values[0]);
      if (a != b) parent_[a] = b, changed = true;
    }
    return changed;
  }

  bool spread() {
    bool changed = false;
    for (const Node& node : graph_.nodes()) {
      const Flow flow = flow_of(node);
      if (flow == Flow::kNone) continue;
      const std::vector<ValueId> values = sharing(node, flow);
      int most = 0, least = 8;
      for (const ValueId id : values)
        most = std::max(most, bits_[id]), least = std::min(least, bits_[id]);
      if (most == 0) continue;
      if (flow == Flow::kSum) {
        if (values.size() != 2 || least == 0) continue;  // a constant, or a term in float
        changed = add(behind_activation(node.outputs[0]), most) || changed;
      }
      changed = join(values, most) || changed;
    }
    return changed;
  }

  const Graph& graph_;
  std::vector<ValueId> parent_;
  std::vector<int> bits_, uses_;  // bits_: 0 for float
  std::vector<NodeId> user_;      // the last
};

}  // namespace

ActivationPlan plan_activations(const Graph& graph, const std::vector<NetworkLayer>& layers,
                                ActivationForm form) {
  if (form == ActivationForm::kInputs) return plan_inputs(graph, layers);
  return Regions(graph, layers).plan();
}

}  // namespace packlight::quantize

#include "prune/layer_groups.h"

#include <algorithm>
#include <unordered_map>

#include "base/fail.h"

namespace packlight::prune {
namespace {

using graph::NodeId;
using graph::ValueId;

// The nodes that read each value.
class Readers {
 public:
  explicit Readers(const graph::Graph& graph) {
    for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
      for (const ValueId input : graph.node(n).inputs) readers_[input].push_back(n);
    }
  }
  const std::vector<NodeId>& of(ValueId value) { return readers_[value]; }

 private:
  std::unordered_map<ValueId, std::vector<NodeId>> readers_;
};

ValueId residual_of(const graph::Graph& graph, Readers& readers, ValueId output) {
  while (readers.of(output).size() == 1) {
    const graph::Node& add = graph.node(readers.of(output)[0]);
    if (add.op != "Add" || add.inputs.size() != 2) break;
    const ValueId other = add.inputs[0] == output ? add.inputs[1] : add.inputs[0];
    if (!graph.value(other).weight) return other;
    output = add.outputs[0];
  }
  return graph::kNone;
}

bool is_prunable(const graph::Graph& graph, Readers& readers, const graph::Node& node, ValueId weight) {
  const bool is_head = std::find(graph.outputs.begin(), graph.outputs.end(), node.outputs[0]) != graph.outputs.end();
  const auto& uses = readers.of(weight);
  return !is_head && std::none_of(uses.begin(), uses.end(), [&](NodeId n) { return graph.node(n).op == "Gather"; });
}

void check_order(const graph::Graph& graph, const LayerGroup& group, const PrunableLayer& layer) {
  if (graph.value(group.input).producer < group.stop) return;
  fail(ErrorCode::kUnsupported, "[prune] layer '{}': its weight is read before its input is known", layer.name);
}

}  // namespace

std::vector<LayerGroup> layer_groups(const graph::Graph& graph) {
  Readers readers(graph);
  std::vector<LayerGroup> groups;
  for (const graph::Node& node : graph.nodes()) {
    const auto linear = graph::linear_weight(graph, node);
    if (!linear || !is_prunable(graph, readers, node, linear->value)) continue;
    const PrunableLayer layer{graph.value(linear->value).name, linear->value, residual_of(graph, readers, node.outputs[0])};
    if (!linear->transposed) {
      fail(ErrorCode::kUnsupported, "[prune] layer '{}': its weight is not stored [out, in]", layer.name);
    }
    const NodeId first = readers.of(linear->value).front();
    if (groups.empty() || groups.back().input != node.inputs[0]) groups.push_back({node.inputs[0], first, node.block, {}});
    groups.back().stop = std::min(groups.back().stop, first);
    groups.back().layers.push_back(layer);
    check_order(graph, groups.back(), layer);
  }
  return groups;
}

}  // namespace packlight::prune

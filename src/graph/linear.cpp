#include "graph/graph.h"

namespace packlight::graph {

std::optional<LinearWeight> linear_weight(const Graph& graph, const Node& node) {
  const bool gemm = node.op == "Gemm";
  if (!node.domain.empty() || (!gemm && node.op != "MatMul") || node.inputs.size() < 2)
    return std::nullopt;
  LinearWeight result{node.inputs[1], gemm && node.integer("transB", 0) != 0};
  if (result.value == kNone) return std::nullopt;
  const Value* value = &graph.value(result.value);
  if (!value->weight && value->producer >= 0) {
    const Node& transpose = graph.node(value->producer);
    if (transpose.op != "Transpose" || !transpose.domain.empty()) return std::nullopt;
    const std::vector<int64_t> perm = transpose.integers("perm");
    if (!perm.empty() && perm != std::vector<int64_t>{1, 0}) return std::nullopt;
    result.value = transpose.inputs[0];
    result.transposed = !result.transposed;
    value = &graph.value(result.value);
  }
  if (!value->weight || !value->shape || value->shape->size() != 2) return std::nullopt;
  return result;
}

std::vector<BlockRange> blocks(const Graph& graph) {
  std::vector<BlockRange> ranges;
  for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes().size()); ++id) {
    const std::string& block = graph.node(id).block;
    if (ranges.empty() || ranges.back().name != block) ranges.push_back({block, id, id});
    ranges.back().end = id + 1;
  }
  return ranges;
}

}  // namespace packlight::graph

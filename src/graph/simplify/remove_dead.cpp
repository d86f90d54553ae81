#include "graph/simplify/remove_dead.h"

#include <algorithm>
#include <array>

#include "graph/simplify/edit.h"

namespace packlight::graph {
namespace {

// Operators that do the same when asked for fewer outputs (Split, say, does not).
constexpr std::array<std::string_view, 8> kOptionalOutputs = {
    "Attention", "BatchNormalization", "Dropout", "GRU",
    "LSTM",      "LayerNormalization", "MaxPool", "RNN"};

}  // namespace

int remove_dead(Graph& graph) {
  int changes = 0;
  Edit edit(graph);
  for (NodeId id = 0; id < edit.size(); ++id) {
    Node& node = graph.node(id);
    if (!node.domain.empty() || std::find(kOptionalOutputs.begin(), kOptionalOutputs.end(),
                                          node.op) == kOptionalOutputs.end())
      continue;
    const size_t before = node.outputs.size();
    while (node.outputs.size() > 1 &&
           (node.outputs.back() == kNone || edit.uses(node.outputs.back()) == 0)) {
      if (node.outputs.back() != kNone) graph.value(node.outputs.back()).producer = -1;
      node.outputs.pop_back();
    }
    changes += node.outputs.size() < before;
  }
  return changes + edit.finish();
}

}  // namespace packlight::graph

#include "train/parameters.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/fail.h"
#include "graph/weight.h"

namespace packlight::train {
namespace {

// Inputs of an operator that are parameters when they are weights.
struct ParameterInputs {
  std::string_view op;
  std::array<int, 3> inputs;  // -1: none
};
constexpr ParameterInputs kInputs[] = {
    {"Conv", {1, 2, -1}},
    {"ConvTranspose", {1, 2, -1}},
    {"Gemm", {0, 1, 2}},
    {"MatMul", {0, 1, -1}},
    {"BatchNormalization", {1, 2, -1}},
    {"LayerNormalization", {1, 2, -1}},
    {"PRelu", {1, -1, -1}},
    {"InstanceNormalization", {1, 2, -1}},
    {"GroupNormalization", {1, 2, -1}},
    {"LSTM", {1, 2, 3}},
    {"GRU", {1, 2, 3}},
    {"RNN", {1, 2, 3}},
    {"Gather", {0, -1, -1}},
    {"RMSNormalization", {1, -1, -1}},
    {"Add", {0, 1, -1}},
    {"Sub", {0, 1, -1}},
    {"Mul", {0, 1, -1}},
    {"Div", {0, 1, -1}},
};

bool is_arithmetic(std::string_view op) {
  return op == "Add" || op == "Sub" || op == "Mul" || op == "Div";
}

// The weight an input stands for, also through a Transpose of it.
graph::ValueId weight_of(const graph::Graph& graph, graph::ValueId id) {
  if (id == graph::kNone) return graph::kNone;
  const graph::Value& value = graph.value(id);
  if (value.weight) return id;
  if (value.producer < 0 || graph.node(value.producer).op != "Transpose") return graph::kNone;
  const graph::ValueId source = graph.node(value.producer).inputs[0];
  return source != graph::kNone && graph.value(source).weight ? source : graph::kNone;
}

}  // namespace

std::vector<Parameter> find_any_parameters(const graph::Graph& graph) {
  std::vector<Parameter> parameters;
  std::set<graph::ValueId> seen;
  for (const graph::Node& node : graph.nodes()) {
    const auto* row = std::find_if(std::begin(kInputs), std::end(kInputs),
                                   [&](const auto& r) { return r.op == node.op; });
    if (row == std::end(kInputs) || !node.domain.empty()) continue;
    for (const int input : row->inputs) {
      if (input < 0 || static_cast<size_t>(input) >= node.inputs.size()) continue;
      const graph::ValueId id = weight_of(graph, node.inputs[input]);
      if (id == graph::kNone) continue;
      const graph::Value& value = graph.value(id);
      if (!graph::is_float(value.type)) continue;
      int64_t elements = 1;
      for (const int64_t size : graph::weight_shape(*value.weight)) elements *= size;
      if (elements == 0 || (is_arithmetic(node.op) && elements == 1) || !seen.insert(id).second)
        continue;
      if (!std::holds_alternative<at::Tensor>(*value.weight)) {
        fail(ErrorCode::kUnsupported,
             "[train] '{}': tensor '{}' is stored as {}; packed weights cannot be trained",
             graph.origin, value.name, graph::weight_format_name(*value.weight));
      }
      parameters.push_back(
          {id, value.name,
           graph::weight_shape(*value.weight).size() >= 2 && !is_arithmetic(node.op)});
    }
  }
  return parameters;
}

std::vector<Parameter> find_parameters(const graph::Graph& graph) {
  std::vector<Parameter> parameters = find_any_parameters(graph);
  if (parameters.empty())
    fail(ErrorCode::kInvalidArgument, "[train] '{}' has no weights to train", graph.name);
  return parameters;
}

}  // namespace packlight::train

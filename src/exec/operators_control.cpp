#include <ATen/ATen.h>

#include "base/fail.h"
#include "base/interrupt.h"
#include "exec/operators.h"
#include "graph/weight.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

const graph::Graph& subgraph(const Call& call, const char* attribute) {
  const auto it = call.node.attributes.find(attribute);
  const auto* graph = it == call.node.attributes.end()
                          ? nullptr
                          : std::get_if<std::shared_ptr<graph::Graph>>(&it->second);
  if (graph == nullptr || *graph == nullptr)
    fail(ErrorCode::kInvalidArgument, "attribute '{}' holds no subgraph", attribute);
  return **graph;
}

Outputs if_operator(const Call& call) {
  const bool condition = call.inputs[0].item<bool>();
  return call.run_subgraph(subgraph(call, condition ? "then_branch" : "else_branch"),
                           call.inputs.subspan(call.inputs.size() - call.node.captures));
}

// What a loop that never ran collects of a value: dimensions that only a run tells are 0.
at::Tensor nothing(const graph::Value& value) {
  if (value.type == graph::ElementType::kUndefined || !value.shape) {
    fail(ErrorCode::kUnsupported,
         "the loop never ran, and nothing says of what type and shape the empty output '{}' is",
         value.name);
  }
  std::vector<int64_t> sizes{0};
  for (const graph::Dim& dim : *value.shape) sizes.push_back(dim.known() ? dim.value : 0);
  return at::empty(sizes, graph::to_scalar_type(value.type));
}

Outputs loop(const Call& call) {
  const graph::Graph& body = subgraph(call, "body");
  const size_t captures = call.node.captures, carried = call.inputs.size() - 2 - captures;
  const size_t scanned = body.outputs.size() - 1 - carried;
  // Without a trip count and without a condition it runs until the body ends it.
  const int64_t trips = call.has(0) ? call.inputs[0].item<int64_t>() : INT64_MAX;
  bool go_on = !call.has(1) || call.inputs[1].item<bool>();
  Outputs values(call.inputs.begin() + 2, call.inputs.begin() + 2 + carried);
  std::vector<Outputs> scans(scanned);
  for (int64_t i = 0; i < trips && go_on; ++i) {
    base::check_interrupt();
    Outputs inputs{at::scalar_tensor(i, at::kLong), at::scalar_tensor(go_on, at::kBool)};
    inputs.insert(inputs.end(), values.begin(), values.end());
    inputs.insert(inputs.end(), call.inputs.end() - captures, call.inputs.end());
    Outputs outputs = call.run_subgraph(body, inputs);
    go_on = outputs[0].item<bool>();
    std::copy_n(outputs.begin() + 1, carried, values.begin());
    for (size_t s = 0; s < scanned; ++s) scans[s].push_back(outputs[1 + carried + s]);
  }
  for (size_t s = 0; s < scanned; ++s) {
    values.push_back(scans[s].empty() ? nothing(body.value(body.outputs[1 + carried + s]))
                                      : at::stack(scans[s]));
  }
  return values;
}

constexpr OperatorEntry kOperators[] = {{"If", if_operator}, {"Loop", loop}};

}  // namespace

std::span<const OperatorEntry> control_operators() { return kOperators; }

}  // namespace packlight::exec

#include "calib/activation_ranges.h"

#include <ATen/ATen.h>

#include <cmath>

#include "base/fail.h"
#include "exec/executor.h"

namespace packlight::calib {
namespace {

[[noreturn]] void refuse(const graph::Graph& graph, graph::ValueId id, const at::Tensor& x,
                         int64_t batch) {
  const at::Tensor bad = at::logical_not(at::isfinite(x.reshape({-1}))).to(at::kInt);
  const auto at = bad.argmax().item<int64_t>();
  fail(ErrorCode::kInvalidArgument,
       "[calib] value '{}' is {} at element {} in calibration batch {}: calibration needs finite "
       "activations",
       graph.value(id).name, x.reshape({-1})[at].item<float>(), at, batch);
}

Range extremes_of(const at::Tensor& x) {
  const auto [low, high] = at::aminmax(x);
  return {low.item<float>(), high.item<float>()};
}

}  // namespace

int64_t sample_count(const Inputs& inputs) {
  if (inputs.empty() || inputs.begin()->second.dim() == 0) return 1;
  return inputs.begin()->second.size(0);
}

Observers observe_activations(const graph::Graph& graph, const std::vector<graph::ValueId>& values,
                              const Batches& batches, ObserverKind kind,
                              const ObserverOptions& options) {
  Observers observers;
  for (const graph::ValueId id : values) observers[id] = make_observer(kind, options);
  // Each is seen once a run, as an input of the first node that takes it.
  std::unordered_map<const graph::Node*, std::vector<size_t>> watched;
  std::unordered_map<graph::ValueId, bool> seen;
  for (const graph::Node& node : graph.nodes()) {
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const graph::ValueId id = node.inputs[i];
      if (observers.count(id) != 0 && !seen[id]) watched[&node].push_back(i), seen[id] = true;
    }
  }
  for (const auto& [id, observer] : observers) {
    if (!seen[id])
      fail(ErrorCode::kInvalidArgument, "[calib] value '{}' of '{}': no node takes it",
           graph.value(id).name, graph.name);
  }
  exec::Executor executor(graph);
  int64_t batch = 0;
  const exec::NodeObserver observe = [&](const graph::Node& node,
                                         std::span<const at::Tensor> inputs) {
    const auto it = watched.find(&node);
    if (it == watched.end()) return;
    for (const size_t i : it->second) {
      const at::Tensor x = inputs[i].to(at::kFloat);
      if (x.numel() == 0) continue;
      const Range extremes = extremes_of(x);
      if (!std::isfinite(extremes.low) || !std::isfinite(extremes.high))
        refuse(graph, node.inputs[i], x, batch);
      observers.at(node.inputs[i])->observe(x, extremes);
    }
  };
  batches([&](const Inputs& inputs) {
    executor.run(inputs, observe);
    ++batch;
    return true;
  });
  if (batch == 0)
    fail(ErrorCode::kInvalidArgument, "[calib] '{}': there are no calibration samples", graph.name);
  return observers;
}

}  // namespace packlight::calib

#include "train/batch_norm.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "exec/executor.h"

namespace packlight::train {
namespace {

constexpr size_t kMean = 3, kVariance = 4;  // inputs of BatchNormalization

bool has_statistics(const graph::Node& node) {
  return node.op == "BatchNormalization" && node.domain.empty() && node.inputs.size() > kVariance;
}

}  // namespace

RunningStatistics::RunningStatistics(const graph::Graph& graph) {
  for (const graph::Node& node : graph.nodes()) {
    if (!has_statistics(node)) continue;
    for (const size_t input : {kMean, kVariance}) {
      const graph::Value& value = graph.value(node.inputs[input]);
      if (value.weight) values_[node.inputs[input]] = exec::dense_weight(*value.weight).clone();
    }
  }
}

void RunningStatistics::observe(const graph::Node& node, std::span<const at::Tensor> inputs) {
  if (!has_statistics(node) || values_.count(node.inputs[kMean]) == 0 ||
      values_.count(node.inputs[kVariance]) == 0)
    return;
  const c10::AutoGradMode no_gradients(false);
  const at::Tensor x = inputs[0].detach();
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < x.dim(); ++axis) {
    if (axis != 1) axes.push_back(axis);
  }
  const auto [variance, mean] = at::var_mean(x, axes, /*unbiased=*/x.numel() > x.size(1));
  const double keep = node.number("momentum", 0.9);
  const auto update = [&](graph::ValueId id, const at::Tensor& batch) {
    at::Tensor& running = values_.at(id);
    running = running * keep + batch * (1 - keep);
  };
  update(node.inputs[kMean], mean);
  update(node.inputs[kVariance], variance);
}

}  // namespace packlight::train

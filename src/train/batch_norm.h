#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <span>
#include <vector>

#include "graph/graph.h"

namespace packlight::train {

// The running mean and variance of every BatchNormalization whose statistics are weights, kept up
// to date from what passes through in training: running = momentum * running + (1 - momentum) *
// batch, momentum the node's (0.9), the batch's variance unbiased as PyTorch has it (ONNX's
// operator takes the biased one; with batches of thousands of pixels they agree).
class RunningStatistics {
 public:
  explicit RunningStatistics(const graph::Graph& graph);

  // Called with a node's inputs before it runs, in training.
  void observe(const graph::Node& node, std::span<const at::Tensor> inputs);

  // Current statistics by weight. They are tensors of their own, not the graph's.
  const std::map<graph::ValueId, at::Tensor>& values() const { return values_; }
  void set(graph::ValueId id, at::Tensor values) { values_.at(id) = std::move(values); }

 private:
  std::map<graph::ValueId, at::Tensor> values_;
};

}  // namespace packlight::train

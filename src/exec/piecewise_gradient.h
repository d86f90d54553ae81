#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <vector>

#include "exec/executor.h"
#include "graph/graph.h"

namespace packlight::exec {

// The gradient of a loss through a graph in pieces: forward without autograd, keeping what is alive
// between pieces; then, from the last piece to the first, each runs again with autograd. Memory:
// one piece's activations and one narrow place for each piece, instead of all activations; cost:
// one more forward. Source: Chen et al., arXiv:1604.06174 (activation checkpointing).
class PiecewiseGradient {
 public:
  // A scalar from the value that the loss looks at.
  using Loss = std::function<at::Tensor(const at::Tensor&)>;
  // A node's first input, and the gradient of its first output, of the same shape as the output.
  using Seen = std::function<void(const at::Tensor& input, const at::Tensor& gradient)>;

  // `executor` runs `graph`; both must outlive this. Leaves among its parameters
  // (Executor::set_parameter(), with requires_grad) collect their gradients. `of`: the value that
  // the loss looks at. `pieces`: 0: the square root of the number of nodes.
  PiecewiseGradient(const graph::Graph& graph, Executor& executor, graph::ValueId of,
                    int64_t pieces = 0);

  // Calls `seen` in run(), in the order of the way back.
  void watch(graph::NodeId node, Seen seen) { watched_[node] = std::move(seen); }

  // `inputs`: values of the graph's inputs. Returns the loss. Nodes must compute the same when they
  // run again (no Dropout). Errors: those of exec.
  double run(Values inputs, const Loss& loss);

  int64_t pieces() const { return static_cast<int64_t>(ends_.size()); }

 private:
  void cut(int64_t pieces);
  // Runs a piece with autograd; `live` becomes what is alive behind it.
  void run_recorded(size_t piece, Values& live);
  void watch_output(graph::NodeId id, const at::Tensor& input, Values& live);

  const graph::Graph& graph_;
  Executor& executor_;
  graph::ValueId of_;
  std::vector<graph::NodeId> ends_;  // of the pieces, ascending
  std::map<graph::NodeId, Seen> watched_;
};

}  // namespace packlight::exec

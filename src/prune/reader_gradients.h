#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <vector>

#include "exec/executor.h"
#include "graph/graph.h"
#include "prune/unit_ranking.h"

namespace packlight::prune {

// What a loss is taken of: the value it looks at, and the loss as a sum over samples and positions.
struct GradientProbe {
  graph::ValueId of = graph::kNone;
  std::function<at::Tensor(const exec::Values& inputs, const at::Tensor& value)> loss;
};
// -log p of the tokens that come next, of a language model (input_ids [n, s] -> logits [n, s,
// tokens]).
GradientProbe next_token_probe(const graph::Graph& graph);
// How far outputs are from what they are, to second order: -log p of classes drawn from the model's
// own distribution (`is_distribution`, or a final Softmax), whose gradients' covariance is the
// Fisher information; else the product with noise over the deviation of the output, that of the
// squared relative error. Errors: Unsupported for several outputs.
GradientProbe curvature_probe(const graph::Graph& graph, bool is_distribution, uint64_t seed);

struct ReaderGradientOptions {
  int64_t rows = 16384;         // positions of a batch that a layer looks at, at most
  int64_t samples = 0;          // at most, evenly spread over the batches; 0: all
  int64_t samples_at_once = 0;  // of a batch; 0: all
  bool quiet = false;
};

// Runs the batches forward and back, and gathers what the gradients say of `nodes`, layers with a
// LayerMatrix of one group. Memory: that of exec::PiecewiseGradient, and outputs^2 numbers a node.
std::map<graph::NodeId, ReaderGradient> reader_gradients(const graph::Graph& graph,
                                                         const std::vector<graph::NodeId>& nodes,
                                                         const std::vector<exec::Values>& batches,
                                                         const GradientProbe& probe,
                                                         const ReaderGradientOptions& options);

}  // namespace packlight::prune

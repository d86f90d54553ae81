#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/graph.h"

namespace packlight::exec {

using Values = std::unordered_map<graph::ValueId, at::Tensor>;

// Called before a node runs, with its input tensors in order (undefined for absent ones).
using NodeObserver = std::function<void(const graph::Node&, std::span<const at::Tensor> inputs)>;

struct ExecOptions {
  bool gradients =
      false;  // record autograd; weights given in `parameters` are used instead of the graph's
  bool cache_weights =
      true;  // keep F32 copies of weights for the executor's life; false: for the block's run only
  bool training = false;  // Dropout drops, BatchNormalization uses the batch's statistics
  bool freeze_bn = false;  // ... but BatchNormalization keeps to the running ones
  int64_t attention_query_chunk =
      128;  // rows of queries handled at once: bounds scratch to [heads, chunk, n] F32
};

// A weight as dense F32 in its graph orientation (decodes encoded tensors).
at::Tensor dense_weight(const graph::Weight& weight);

// Sets LibTorch's threads (it starts with one) and checks once that its matrix product is right on
// this processor (some OpenBLAS builds are wrong on new ones). Errors: Internal with the advice
// which OPENBLAS_CORETYPE to set.
void initialise(int threads);

// Runs a graph with LibTorch, operator by operator. Knows no model family. Not thread-safe.
class Executor {
 public:
  Executor(const graph::Graph& graph, ExecOptions options = {});

  // Whole graph: inputs by name -> outputs by name.
  std::unordered_map<std::string, at::Tensor> run(
      const std::unordered_map<std::string, at::Tensor>& inputs,
      const NodeObserver& observer = nullptr);

  // Nodes [begin, end) on `live`: values that no later node (or graph output) needs are dropped,
  // new ones added. Block by block over many samples keeps memory at one block's weights;
  // release_weights() drops this block's F32 copies and the resident pages of its mapped bytes.
  void run_nodes(graph::NodeId begin, graph::NodeId end, Values& live,
                 const NodeObserver& observer = nullptr);
  void release_weights(graph::NodeId begin, graph::NodeId end);

  // Never drops this value while nodes run: it is wanted afterwards, like a graph output.
  void keep(graph::ValueId id);

  // Whether autograd records nodes from now on, as ExecOptions::gradients.
  void record_gradients(bool record) { options_.gradients = record; }

  // Uses `tensor` for a weight from now on (training, trial quantization).
  void set_parameter(graph::ValueId weight, at::Tensor tensor);

 private:
  at::Tensor weight(graph::ValueId id);
  std::vector<at::Tensor> run_node(const graph::Node& node, const Values& live,
                                   const NodeObserver& observer);
  // Inputs and outputs of a subgraph of a control operator, in order.
  std::vector<at::Tensor> run_subgraph(const graph::Graph& body,
                                       std::span<const at::Tensor> inputs);
  void drop_copies(graph::NodeId begin, graph::NodeId end);

  const graph::Graph& graph_;
  ExecOptions options_;
  std::unordered_map<graph::ValueId, at::Tensor> weights_;
  std::unordered_map<graph::ValueId, at::Tensor> parameters_;
  std::vector<graph::NodeId> last_use_;
  std::unordered_map<const graph::Graph*, std::unique_ptr<Executor>> subgraphs_;
};

}  // namespace packlight::exec

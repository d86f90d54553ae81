#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "calib/activation_store.h"
#include "calib/calibration_tokens.h"
#include "exec/executor.h"
#include "graph/graph.h"

namespace packlight::calib {

struct StreamOptions {
  uint64_t max_ram_bytes = 0;  // of values kept between nodes; what is beyond goes to a temporary file
  std::filesystem::path spill_folder;
  int64_t batch_tokens = 2048;  // run through nodes at a time: bounds their scratch
};

// Calibration tokens on their way through a language model: batches of windows, each as far as it was run last. All batches run
// through a few nodes, then all through the next ones, so those nodes' F32 weights and the values alive between two nodes are all
// that is in memory. Two streams side by side compare a model with another that has the same nodes.
//   graph inputs: input_ids and position_ids [batch, sequence] I64
// A weight of the graph that is replaced takes effect when no node that reads it has run since release_weights().
class TokenStream {
 public:
  // `graph` and `tokens` must outlive this. Errors: InvalidArgument for a graph without those inputs.
  TokenStream(const graph::Graph& graph, const CalibrationTokens& tokens, StreamOptions options);

  size_t batches() const { return batches_.size(); }
  // Runs a batch from where it is up to before node `end`, and gives its live values away: put() them back to go on.
  // Errors: those of exec; Io from spilling.
  exec::Values run(size_t batch, graph::NodeId end, const exec::NodeObserver& observer = nullptr);
  void put(size_t batch, exec::Values values) { store_.put(batch, std::move(values)); }
  // Drops the F32 copies of the weights that these nodes read.
  void release_weights(graph::NodeId begin, graph::NodeId end) { executor_.release_weights(begin, end); }

 private:
  struct Batch {
    int64_t first, windows, length;  // first token, windows of this length
    graph::NodeId next = 0;          // the node it stands before
  };
  exec::Values inputs(const Batch& batch) const;

  const graph::Graph& graph_;
  const CalibrationTokens& tokens_;
  std::vector<Batch> batches_;
  exec::Executor executor_;
  ActivationStore store_;
};

}  // namespace packlight::calib

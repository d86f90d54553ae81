#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "calib/activation_store.h"
#include "calib/calibration_tokens.h"
#include "exec/executor.h"
#include "graph/graph.h"

namespace packlight::calib {

struct StreamOptions {
  uint64_t max_ram_bytes = 0;         // of hidden states kept between blocks; what is beyond goes to a temporary file
  std::filesystem::path spill_folder;
  int64_t batch_tokens = 2048;        // run through a block at a time: bounds its scratch
};

// Mean square of each input channel of each linear weight: mean over tokens of x_c^2, [in_features].
using MeanSquares = std::unordered_map<graph::ValueId, std::vector<double>>;

// Runs calibration tokens through a language model one block at a time: all windows through a block, then the next,
// so one block's F32 weights and the hidden states are all that is in memory.
//   graph inputs: input_ids and position_ids [batch, sequence] I64
// The last linear operator of the last block is not run: its input is observed, its output (the logits) is needed by nobody.
class InputStatistics {
 public:
  // `graph` must outlive this. Errors: InvalidArgument for a graph without those inputs.
  InputStatistics(const graph::Graph& graph, const CalibrationTokens& tokens, StreamOptions options);

  size_t blocks() const { return ranges_.size(); }
  size_t batches() const { return batches_.size(); }
  const graph::BlockRange& range(size_t block) const { return ranges_[block]; }

  // Runs block `block` (call in order, from 0) and returns the statistics of its linear weights. `on_batch` is called after each
  // batch. Errors: Internal when an activation is not finite; Io from spilling.
  MeanSquares run_block(size_t block, const std::function<void()>& on_batch = nullptr);

 private:
  struct Batch {
    int64_t first, windows, length;  // first token, windows of this length
  };
  exec::Values inputs(const Batch& batch) const;
  std::optional<graph::NodeId> last_linear(size_t block) const;  // of the last block

  const graph::Graph& graph_;
  const CalibrationTokens& tokens_;
  std::vector<graph::BlockRange> ranges_;
  std::vector<Batch> batches_;
  exec::Executor executor_;
  ActivationStore store_;
};

}  // namespace packlight::calib

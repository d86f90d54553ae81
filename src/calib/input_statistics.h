#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "calib/calibration_tokens.h"
#include "calib/token_stream.h"
#include "graph/graph.h"

namespace packlight::calib {

// Mean square of each input channel of each linear weight: mean over tokens of x_c^2, [in_features].
using MeanSquares = std::unordered_map<graph::ValueId, std::vector<double>>;

// Runs calibration tokens through a language model one block at a time: all windows through a block, then the next,
// so one block's F32 weights and the hidden states are all that is in memory.
// The last linear operator of the last block is not run: its input is observed, its output (the logits) is needed by nobody.
class InputStatistics {
 public:
  // `graph` must outlive this. Errors: InvalidArgument for a graph without those inputs.
  InputStatistics(const graph::Graph& graph, const CalibrationTokens& tokens, StreamOptions options);

  size_t blocks() const { return ranges_.size(); }
  size_t batches() const { return stream_.batches(); }
  const graph::BlockRange& range(size_t block) const { return ranges_[block]; }

  // Runs block `block` (call in order, from 0) and returns the statistics of its linear weights. `on_batch` is called after each
  // batch. Errors: Internal when an activation is not finite; Io from spilling.
  MeanSquares run_block(size_t block, const std::function<void()>& on_batch = nullptr);

 private:
  std::optional<graph::NodeId> last_linear(size_t block) const;  // of the last block

  const graph::Graph& graph_;
  std::vector<graph::BlockRange> ranges_;
  TokenStream stream_;
};

}  // namespace packlight::calib

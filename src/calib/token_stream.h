#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "calib/calibration_tokens.h"
#include "calib/value_stream.h"
#include "exec/executor.h"
#include "graph/graph.h"

namespace packlight::calib {

struct StreamOptions {
  uint64_t max_ram_bytes =
      0;  // of values kept between nodes; what is beyond goes to a temporary file
  std::filesystem::path spill_folder;
  int64_t batch_tokens = 2048;  // run through nodes at a time: bounds their scratch
};

// Calibration tokens as the inputs of a language model: batches of windows of at most
// `batch_tokens` tokens, at least one window.
//   graph inputs: input_ids and position_ids [batch, sequence] I64
// Errors: InvalidArgument for a graph without those inputs.
std::vector<exec::Values> token_values(const graph::Graph& graph, const CalibrationTokens& tokens,
                                       int64_t batch_tokens);

// Those on their way through the model.
class TokenStream : public ValueStream {
 public:
  // `graph` must outlive this.
  TokenStream(const graph::Graph& graph, const CalibrationTokens& tokens,
              const StreamOptions& options)
      : ValueStream(graph, token_values(graph, tokens, options.batch_tokens),
                    {options.max_ram_bytes, options.spill_folder}) {}
};

}  // namespace packlight::calib

#include "calib/token_stream.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "base/fail.h"

namespace packlight::calib {
namespace {

graph::ValueId input_id(const graph::Graph& graph, const char* name) {
  const auto id = graph.find(name);
  if (!id || std::find(graph.inputs.begin(), graph.inputs.end(), *id) == graph.inputs.end()) {
    fail(ErrorCode::kInvalidArgument, "[calib] graph '{}' has no input '{}': it is no language model", graph.name, name);
  }
  return *id;
}

exec::ExecOptions stream_options() {
  exec::ExecOptions options;
  options.cache_weights = true;  // a weight serves all batches; release_weights() ends that
  return options;
}

size_t batch_count(const CalibrationTokens& tokens, int64_t per_batch) {
  const int64_t whole = static_cast<int64_t>(tokens.ids.size()) / tokens.window;
  const bool rest = static_cast<int64_t>(tokens.ids.size()) % tokens.window != 0;
  return (whole + per_batch - 1) / per_batch + (rest ? 1 : 0);
}

int64_t windows_per_batch(const CalibrationTokens& tokens, const StreamOptions& options) {
  return std::max<int64_t>(1, options.batch_tokens / tokens.window);
}

}  // namespace

TokenStream::TokenStream(const graph::Graph& graph, const CalibrationTokens& tokens, StreamOptions options)
    : graph_(graph),
      tokens_(tokens),
      executor_(graph, stream_options()),
      store_(batch_count(tokens, windows_per_batch(tokens, options)), options.max_ram_bytes, options.spill_folder) {
  const int64_t per_batch = windows_per_batch(tokens, options);
  const auto total = static_cast<int64_t>(tokens.ids.size());
  const int64_t whole = total / tokens.window;
  for (int64_t w = 0; w < whole; w += per_batch) {
    batches_.push_back({w * tokens.window, std::min(per_batch, whole - w), tokens.window});
  }
  if (total % tokens.window != 0) batches_.push_back({whole * tokens.window, 1, total % tokens.window});
  for (size_t b = 0; b < batches_.size(); ++b) store_.put(b, inputs(batches_[b]));
}

exec::Values TokenStream::inputs(const Batch& batch) const {
  at::Tensor ids = at::empty({batch.windows, batch.length}, at::kLong);
  std::copy_n(tokens_.ids.begin() + batch.first, batch.windows * batch.length, ids.data_ptr<int64_t>());
  const at::Tensor positions = at::arange(batch.length, at::kLong).expand({batch.windows, batch.length}).contiguous();
  exec::Values values;
  values[input_id(graph_, "input_ids")] = ids;
  values[input_id(graph_, "position_ids")] = positions;
  return values;
}

exec::Values TokenStream::run(size_t batch, graph::NodeId end, const exec::NodeObserver& observer) {
  exec::Values live = store_.take(batch);
  executor_.run_nodes(batches_[batch].next, end, live, observer);
  batches_[batch].next = end;
  return live;
}

}  // namespace packlight::calib

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
    fail(ErrorCode::kInvalidArgument,
         "[calib] graph '{}' has no input '{}': it is no language model", graph.name, name);
  }
  return *id;
}

}  // namespace

std::vector<exec::Values> token_values(const graph::Graph& graph, const CalibrationTokens& tokens,
                                       int64_t batch_tokens) {
  const graph::ValueId ids = input_id(graph, "input_ids"),
                       positions = input_id(graph, "position_ids");
  const auto total = static_cast<int64_t>(tokens.ids.size());
  const int64_t whole = total / tokens.window,
                per_batch = std::max<int64_t>(1, batch_tokens / tokens.window);
  std::vector<exec::Values> batches;
  const auto add = [&](int64_t first, int64_t windows, int64_t length) {
    at::Tensor tensor = at::empty({windows, length}, at::kLong);
    std::copy_n(tokens.ids.begin() + first, windows * length, tensor.data_ptr<int64_t>());
    batches.push_back(
        {{ids, tensor},
         {positions, at::arange(length, at::kLong).expand({windows, length}).contiguous()}});
  };
  for (int64_t w = 0; w < whole; w += per_batch)
    add(w * tokens.window, std::min(per_batch, whole - w), tokens.window);
  if (total % tokens.window != 0) add(whole * tokens.window, 1, total % tokens.window);
  return batches;
}

}  // namespace packlight::calib

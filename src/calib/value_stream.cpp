#include "calib/value_stream.h"

#include "base/fail.h"

namespace packlight::calib {

ValueStream::ValueStream(const graph::Graph& graph, std::vector<exec::Values> batches,
                         const ValueStreamOptions& options)
    : executor_(graph),
      store_(batches.size(), options.max_ram_bytes, options.spill_folder),
      next_(batches.size(), 0) {
  if (batches.empty())
    fail(ErrorCode::kInvalidArgument, "[calib] '{}': no calibration samples", graph.name);
  for (size_t i = 0; i < batches.size(); ++i) store_.put(i, std::move(batches[i]));
}

exec::Values ValueStream::run(size_t batch, graph::NodeId end, const exec::NodeObserver& observer) {
  exec::Values live = store_.take(batch);
  if (end > next_[batch]) executor_.run_nodes(next_[batch], end, live, observer);
  next_[batch] = std::max(next_[batch], end);
  return live;
}

std::vector<exec::Values> values_of(const graph::Graph& graph, const Batches& batches,
                                    int64_t samples) {
  std::vector<exec::Values> result;
  batches([&](const Inputs& inputs) {
    exec::Values values;
    for (const graph::ValueId id : graph.inputs) {
      const auto it = inputs.find(graph.value(id).name);
      if (it == inputs.end()) {
        fail(ErrorCode::kInvalidArgument, "[calib] '{}': input '{}' is missing", graph.name,
             graph.value(id).name);
      }
      values[id] = it->second;
    }
    result.push_back(std::move(values));
    samples -= sample_count(inputs);
    return samples > 0;
  });
  return result;
}

}  // namespace packlight::calib

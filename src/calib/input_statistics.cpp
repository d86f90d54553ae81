#include "calib/input_statistics.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/fail.h"

namespace packlight::calib {
namespace {

// Sums squares per weight; linears that share an input (query, key, value) share its sum.
class SquareSums {
 public:
  explicit SquareSums(const graph::Graph& graph) : graph_(graph) {}

  void add(const graph::Node& node, const at::Tensor& input) {
    const auto weight = graph::linear_weight(graph_, node);
    if (!weight) return;
    if (!input.is_same(last_input_)) {
      last_input_ = input;
      const at::Tensor rows = input.reshape({-1, input.size(-1)}).to(at::kDouble);
      last_sum_ = rows.mul(rows).sum(0);
      last_rows_ = rows.size(0);
    }
    Entry& entry = entries_[weight->value];
    entry.sum = entry.rows == 0 ? last_sum_ : entry.sum.add(last_sum_);
    entry.rows += last_rows_;
  }
  void end_batch() { last_input_ = at::Tensor(); }

  MeanSquares means() const {
    MeanSquares out;
    for (const auto& [weight, entry] : entries_) {
      const at::Tensor mean = entry.sum.div(static_cast<double>(entry.rows)).contiguous();
      const double* data = mean.data_ptr<double>();
      std::vector<double>& values = out[weight];
      values.assign(data, data + mean.numel());
      for (size_t c = 0; c < values.size(); ++c) {
        if (std::isfinite(values[c])) continue;
        fail(ErrorCode::kInvalidArgument, "[calib] the input of '{}' is not finite at channel {} on the calibration text",
             graph_.value(weight).name, c);
      }
    }
    return out;
  }

 private:
  struct Entry {
    at::Tensor sum;
    int64_t rows = 0;
  };
  const graph::Graph& graph_;
  std::map<graph::ValueId, Entry> entries_;  // in the order of the weights, so errors name the first
  at::Tensor last_input_, last_sum_;
  int64_t last_rows_ = 0;
};

}  // namespace

InputStatistics::InputStatistics(const graph::Graph& graph, const CalibrationTokens& tokens, StreamOptions options)
    : graph_(graph), ranges_(graph::blocks(graph)), stream_(graph, tokens, std::move(options)) {}

std::optional<graph::NodeId> InputStatistics::last_linear(size_t block) const {
  const graph::BlockRange& range = ranges_[block];
  if (block + 1 < ranges_.size()) return std::nullopt;
  for (graph::NodeId n = range.end; n-- > range.begin;) {
    if (graph::linear_weight(graph_, graph_.node(n))) return n;
  }
  return std::nullopt;
}

MeanSquares InputStatistics::run_block(size_t block, const std::function<void()>& on_batch) {
  const graph::BlockRange& range = ranges_[block];
  const std::optional<graph::NodeId> last = last_linear(block);
  // Up to where that operator's input is known: not even its weight is decoded.
  const graph::ValueId last_input = last ? graph_.node(*last).inputs[0] : graph::kNone;
  const graph::NodeId stop = last ? std::max(range.begin, graph_.value(last_input).producer + 1) : range.end;
  SquareSums sums(graph_);
  const auto observe = [&](const graph::Node& node, std::span<const at::Tensor> node_inputs) {
    if (!node_inputs.empty()) sums.add(node, node_inputs[0]);
  };
  for (size_t b = 0; b < stream_.batches(); ++b) {
    exec::Values live = stream_.run(b, stop, observe);
    if (last) sums.add(graph_.node(*last), live.at(last_input));
    sums.end_batch();
    stream_.put(b, std::move(live));
    if (on_batch) on_batch();
  }
  stream_.release_weights(range.begin, range.end);
  return sums.means();
}

}  // namespace packlight::calib

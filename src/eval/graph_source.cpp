#include <ATen/ATen.h>

#include <algorithm>
#include <variant>
#include <vector>

#include "base/fail.h"
#include "eval/logit_source.h"
#include "exec/dense_weight.h"
#include "exec/executor.h"

namespace packlight::eval {
namespace {

// Windows that share one decoding of a block's weights when the weights are not kept: the decoding then costs little
// beside the products, and activations stay below those of one long document.
constexpr int64_t kWindowsPerDecoding = 8;

uint64_t dense_weight_bytes(const graph::Graph& graph) {
  uint64_t elements = 0;
  for (const graph::Value& v : graph.values()) {
    if (!v.weight) continue;
    if (const auto* dense = std::get_if<at::Tensor>(&*v.weight)) {
      elements += static_cast<uint64_t>(dense->numel());
    } else {
      const auto& encoded = std::get<codec::EncodedTensor>(*v.weight);
      elements += static_cast<uint64_t>(encoded.rows) * static_cast<uint64_t>(encoded.cols);
    }
  }
  return elements * sizeof(float);
}

class GraphSource : public LogitSource {
 public:
  GraphSource(const import::LanguageModel& model, uint64_t weight_cache_bytes)
      : model_(model),
        graph_(model.graph),
        vocab_(model.config.vocab_size),
        keep_weights_(dense_weight_bytes(model.graph) <= weight_cache_bytes),
        executor_(model.graph, exec::ExecOptions{.cache_weights = keep_weights_}) {
    const graph::ValueId logits = graph_.outputs.at(0);
    head_ = graph_.value(logits).producer;
    const auto weight = head_ >= 0 ? graph::linear_weight(graph_, graph_.node(head_)) : std::nullopt;
    if (!weight) {
      fail(ErrorCode::kUnsupported, "[eval] '{}': output '{}' is not a linear map of a hidden state",
           model.path.string(), graph_.value(logits).name);
    }
    hidden_ = graph_.node(head_).inputs.at(0);
    if (!keep_weights_) {
      // The head runs once per group of rows: decode it once.
      executor_.set_parameter(weight->value, exec::dense_weight(*graph_.value(weight->value).weight));
    }
  }

  int64_t vocab_size() const override { return vocab_; }
  int64_t windows_per_pass() const override { return keep_weights_ ? 1 : kWindowsPerDecoding; }

  void begin(std::span<const text::TokenId> windows, int64_t length, int64_t /*first*/) override {
    check_window(model_.path, model_.config, length);
    const int64_t count = static_cast<int64_t>(windows.size()) / length;
    at::Tensor ids = at::empty({count, length}, at::kLong);
    std::copy(windows.begin(), windows.end(), ids.data_ptr<int64_t>());
    const at::Tensor positions = at::arange(length, at::kLong).unsqueeze(0).expand({count, length}).contiguous();
    live_.clear();
    for (const graph::ValueId input : graph_.inputs) {
      live_[input] = graph_.value(input).name == "position_ids" ? positions : ids;
    }
    for (const graph::BlockRange& block : graph::blocks(graph_)) {
      const graph::NodeId end = std::min(block.end, head_);
      if (block.begin >= end) continue;
      executor_.run_nodes(block.begin, end, live_);
      if (!keep_weights_) executor_.release_weights(block.begin, end);
    }
  }

  std::span<const float> rows(int64_t window, int64_t begin, int64_t end) override {
    exec::Values live = live_;
    live[hidden_] = live_.at(hidden_).narrow(0, window, 1).narrow(1, begin, end - begin);
    executor_.run_nodes(head_, static_cast<graph::NodeId>(graph_.nodes().size()), live);
    logits_ = live.at(graph_.outputs.at(0)).contiguous();
    return {logits_.data_ptr<float>(), static_cast<size_t>(logits_.numel())};
  }

  void check_weights() const override {
    exec::check_finite(graph_, 0, static_cast<graph::NodeId>(graph_.nodes().size()));
  }

 private:
  const import::LanguageModel& model_;
  const graph::Graph& graph_;
  int64_t vocab_;
  bool keep_weights_;
  exec::Executor executor_;
  graph::NodeId head_ = -1;
  graph::ValueId hidden_ = graph::kNone;
  exec::Values live_;
  at::Tensor logits_;
};

}  // namespace

std::unique_ptr<LogitSource> graph_source(const import::LanguageModel& model, uint64_t weight_cache_bytes) {
  return std::make_unique<GraphSource>(model, weight_cache_bytes);
}

}  // namespace packlight::eval

#include "prune/remove_blocks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>

#include "base/fail.h"
#include "base/progress.h"
#include "calib/value_stream.h"
#include "graph/graph.h"
#include "prune/reader_gradients.h"

namespace packlight::prune {
namespace {

using graph::NodeId;
using graph::ValueId;

std::string layer_prefix(int64_t layer) { return "model.layers." + std::to_string(layer) + "."; }

// The nodes of a block and the hidden states before and after it.
struct Block {
  NodeId begin = 0, end = 0;
  ValueId before = graph::kNone, after = graph::kNone;
};

Block block_of(const import::LanguageModel& model, int64_t layer) {
  const graph::Graph& graph = model.graph;
  const std::string name = "model.layers." + std::to_string(layer);
  Block block;
  for (const graph::BlockRange& range : graph::blocks(graph)) {
    if (graph.node(range.begin).block == name) block.begin = range.begin, block.end = range.end;
  }
  const auto inside = [&](NodeId id) { return id >= block.begin && id < block.end; };
  // The first norm of a block reads what comes in; what goes out is the last that others read.
  for (NodeId id = block.begin; id < block.end && block.before == graph::kNone; ++id) {
    if (graph.node(id).op == "RMSNormalization") block.before = graph.node(id).inputs[0];
  }
  for (NodeId id = block.end; id < static_cast<NodeId>(graph.nodes().size()); ++id) {
    for (const ValueId input : graph.node(id).inputs) {
      if (input != graph::kNone && inside(graph.value(input).producer)) block.after = input;
    }
  }
  if (block.before == graph::kNone || block.after == graph::kNone)
    fail(ErrorCode::kUnsupported,
         "[prune] '{}': block '{}' has no hidden state before and after it", model.path.string(),
         name);
  return block;
}

// 1 - mean cosine, by layer.
std::vector<double> influences(const import::LanguageModel& model,
                               const std::vector<exec::Values>& batches, bool quiet) {
  const int64_t layers = model.config.layers();
  std::vector<double> sums(layers, 0);
  exec::Executor executor(model.graph);
  for (int64_t layer = 0; layer < layers; ++layer) executor.keep(block_of(model, layer).before);
  base::Progress progress("Measuring blocks", batches.size() * layers);
  progress.set_quiet(quiet);
  int64_t tokens = 0;
  for (const exec::Values& batch : batches) {
    exec::Values live = batch;
    NodeId at = 0;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const Block block = block_of(model, layer);
      executor.run_nodes(at, block.begin, live);
      executor.run_nodes(block.begin, block.end, live);
      at = block.end;
      const at::Tensor before = live.at(block.before), after = live.at(block.after);
      const at::Tensor cosine = at::cosine_similarity(before, after, -1);
      if (layer == 0) tokens += cosine.numel();
      sums[layer] += (1 - cosine).sum(at::kDouble).item<double>();
      live.erase(block.before);
      progress.advance();
    }
  }
  for (double& sum : sums) sum /= static_cast<double>(tokens);
  return sums;
}

// Mean loss of the tokens that come next.
double mean_loss(const import::LanguageModel& model, const std::vector<exec::Values>& batches) {
  const GradientProbe probe = next_token_probe(model.graph);
  const ValueId ids = *model.graph.find("input_ids");
  exec::Executor executor(model.graph);
  double sum = 0;
  int64_t count = 0;
  for (const exec::Values& batch : batches) {
    exec::Values live = batch;
    executor.run_nodes(0, static_cast<NodeId>(model.graph.nodes().size()), live);
    sum += probe.loss(batch, live.at(probe.of)).item<double>();
    count += batch.at(ids).size(0) * (batch.at(ids).size(1) - 1);
  }
  if (!std::isfinite(sum))
    fail(ErrorCode::kInvalidArgument,
         "[prune] '{}': the loss on the calibration text is not finite", model.path.string());
  return sum / static_cast<double>(count);
}

// Layers of the lowest scores, ascending.
std::vector<BlockRemoval> lowest(const std::vector<double>& scores, int64_t count) {
  std::vector<BlockRemoval> all;
  for (size_t i = 0; i < scores.size(); ++i) all.push_back({static_cast<int64_t>(i), scores[i]});
  std::stable_sort(all.begin(), all.end(),
                   [](const BlockRemoval& a, const BlockRemoval& b) { return a.score < b.score; });
  all.resize(count);
  return all;
}

std::vector<BlockRemoval> by_perplexity(const import::LanguageModel& model, int64_t count,
                                        const std::vector<exec::Values>& batches, bool quiet) {
  const int64_t layers = model.config.layers();
  base::Progress progress("Trying blocks", count * layers - count * (count - 1) / 2);
  progress.set_quiet(quiet);
  std::vector<BlockRemoval> chosen;
  std::vector<int64_t> gone;
  while (static_cast<int64_t>(chosen.size()) < count) {
    BlockRemoval best{-1, 0};
    for (int64_t layer = 0; layer < layers; ++layer) {
      if (std::find(gone.begin(), gone.end(), layer) != gone.end()) continue;
      std::vector<int64_t> trial = gone;
      trial.push_back(layer);
      const double loss = mean_loss(without_blocks(model, trial), batches);
      if (best.layer < 0 || loss < best.score) best = {layer, loss};
      progress.advance();
    }
    chosen.push_back(best);
    gone.push_back(best.layer);
  }
  return chosen;
}

}  // namespace

BlockCriterion parse_block_criterion(std::string_view name) {
  if (name == "influence") return BlockCriterion::kInfluence;
  if (name == "perplexity") return BlockCriterion::kPerplexity;
  if (name == "random") return BlockCriterion::kRandom;
  fail(ErrorCode::kInvalidArgument,
       "[prune] criterion '{}' is none of influence, perplexity, random for blocks", name);
}

import::LanguageModel without_blocks(const import::LanguageModel& model,
                                     const std::vector<int64_t>& layers){std::vector<int64_t> kept;
for (int64_t layer = 0; layer < model.config.layers(); ++layer) {
  if (std::find(layers.begin(), layers.end(), layer) == layers.end()) kept.push_back(layer);
}
for (const int64_t layer : layers) {
  if (layer < 0 || layer >= model.config.layers())
    fail(ErrorCode::kInvalidArgument, "[prune] '{}' has no layer {}: it has {}",
         model.path.string(), layer, model.config.layers());
}
if (kept.empty())
  fail(ErrorCode::kInvalidArgument, "[prune] '{}': no block would be left", model.path.string());
import::LanguageModel smaller = model;
const auto pick = [&](std::vector<int64_t>& sizes) {
  std::vector<int64_t> some;
  for (const int64_t layer : kept) some.push_back(sizes[layer]);
  sizes = std::move(some);
};
pick(smaller.config.heads);
pick(smaller.config.kv_heads);
pick(smaller.config.ffn_size);
const auto old_name = [&](const std::string& name) {
  for (size_t i = 0; i < kept.size(); ++i) {
    const std::string prefix = layer_prefix(static_cast<int64_t>(i));
    if (name.starts_with(prefix)) return layer_prefix(kept[i]) + name.substr(prefix.size());
  }
  return name;
};
const auto value_of = [&](const std::string& name) -> const graph::Value& {
  return model.graph.value(*model.graph.find(old_name(name)));
};
smaller.graph = import::build_decoder_graph(
    smaller.config, [&](const io::TensorSpec& spec) { return *value_of(spec.name).weight; });
smaller.graph.name = model.graph.name;
smaller.graph.origin = model.graph.origin;
for (const io::TensorSpec& spec : io::decoder_tensors(smaller.config))
  smaller.graph.value(*smaller.graph.find(spec.name)).zeros = value_of(spec.name).zeros;
return smaller;
}  // namespace packlight::prune

std::vector<BlockRemoval> remove_blocks(import::LanguageModel& model, int64_t count,
                                        BlockCriterion criterion,
                                        const std::vector<exec::Values>& batches, uint64_t seed,
                                        bool quiet) {
  const int64_t layers = model.config.layers();
  if (count < 1 || count >= layers)
    fail(ErrorCode::kInvalidArgument,
         "[prune] {} of {} blocks cannot go: at least one goes, and one stays", count, layers);
  std::vector<BlockRemoval> chosen;
  if (criterion == BlockCriterion::kPerplexity) {
    chosen = by_perplexity(model, count, batches, quiet);
  } else if (criterion == BlockCriterion::kInfluence) {
    chosen = lowest(influences(model, batches, quiet), count);
  } else {
    std::mt19937_64 random(seed);
    std::vector<double> scores(layers);
    for (double& score : scores) score = static_cast<double>(random() >> 11);
    chosen = lowest(scores, count);
  }
  std::vector<int64_t> gone;
  for (const BlockRemoval& removal : chosen) gone.push_back(removal.layer);
  model = without_blocks(model, gone);
  return chosen;
}

}  // namespace packlight::prune

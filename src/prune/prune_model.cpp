#include "prune/prune_model.h"

#include <ATen/ATen.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/fail.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "calib/second_moment.h"
#include "calib/token_stream.h"
#include "exec/executor.h"
#include "graph/weight.h"
#include "prune/layer_groups.h"
#include "prune/masked_fit.h"
#include "prune/weight_spool.h"

namespace packlight::prune {
namespace {

using graph::NodeId;
using graph::ValueId;

std::filesystem::path folder_beside(const std::filesystem::path& output) {
  const std::filesystem::path parent = (output.has_filename() ? output : output.parent_path()).parent_path();
  return parent.empty() ? "." : parent;
}

void check_options(const PruneOptions& options, const calib::CalibrationTokens* tokens) {
  if (!options.method.pattern.is_structured() && !(options.ratio > 0 && options.ratio < 1)) {
    fail(ErrorCode::kInvalidArgument, "[prune] ratio {}: the share of weights to remove must lie between 0 and 1", options.ratio);
  }
  if (!(options.undo_drift >= 0 && options.undo_drift <= 1)) {
    fail(ErrorCode::kInvalidArgument, "[prune] share of drift to undo {}: it must lie in [0, 1]", options.undo_drift);
  }
  if (options.undo_drift > 0 && options.method.repair == Repair::kNone) {
    fail(ErrorCode::kInvalidArgument, "[prune] share of drift to undo {}: without repair the weights that stay are as they were",
         options.undo_drift);
  }
  if (!(options.method.damping >= 0) || !std::isfinite(options.method.damping)) {
    fail(ErrorCode::kInvalidArgument, "[prune] damping {}: it must be 0 or more", options.method.damping);
  }
  if (options.method.pattern.is_structured() && options.spread != Spread::kUniform) {
    fail(ErrorCode::kInvalidArgument, "[prune] method {}: every layer loses the same share, which leaves nothing to spread",
         graph::to_string(options.method.pattern));
  }
  if (needs_calibration(options) && (tokens == nullptr || tokens->ids.empty())) {
    fail(ErrorCode::kInvalidArgument, "[prune] this way of pruning needs calibration tokens");
  }
}

// The groups without the layers that a pattern protects. Errors: InvalidArgument for a pattern without effect, nothing left.
std::vector<LayerGroup> unprotected(std::vector<LayerGroup> groups, const std::vector<std::string>& protect,
                                    const std::string& origin) {
  std::vector<bool> matched(protect.size());
  std::string example = groups.empty() ? "" : groups.front().layers.front().name;
  const auto is_protected = [&](const PrunableLayer& layer) {
    bool found = false;
    for (size_t i = 0; i < protect.size(); ++i) {
      if (fnmatch(protect[i].c_str(), layer.name.c_str(), 0) == 0) found = matched[i] = true;
    }
    return found;
  };
  for (LayerGroup& group : groups) std::erase_if(group.layers, is_protected);
  std::erase_if(groups, [](const LayerGroup& group) { return group.layers.empty(); });
  for (size_t i = 0; i < protect.size(); ++i) {
    if (matched[i]) continue;
    fail(ErrorCode::kInvalidArgument, "[prune] '{}': pattern '{}' protects no layer that could be pruned; names look like {}",
         origin, protect[i], example);
  }
  if (groups.empty()) fail(ErrorCode::kInvalidArgument, "[prune] '{}': no layer is left to prune", origin);
  return groups;
}

// Repairs would bring back what an earlier mask removed.
void check_unpruned(const graph::Graph& graph, const std::vector<LayerGroup>& groups) {
  for (const LayerGroup& group : groups) {
    for (const PrunableLayer& layer : group.layers) {
      const auto& zeros = graph.value(layer.weight).zeros;
      if (!zeros) continue;
      fail(ErrorCode::kUnsupported, "[prune] '{}': tensor '{}' is pruned already ({}): prune the original, or protect the layer",
           graph.origin, layer.name, graph::to_string(*zeros));
    }
  }
}

// The moments that a group of layers is pruned by.
struct GroupMoments {
  calib::SecondMoment input;                        // x x^T
  calib::SecondMoment drift;                        // (x_original - x) x^T
  std::map<ValueId, calib::SecondMoment> residual;  // (h_original - h) x^T for each stream h that a layer is added to
};

class ModelPruner {
 public:
  ModelPruner(const import::LanguageModel& model, const calib::CalibrationTokens* tokens, const PruneOptions& options)
      : options_(options),
        original_(model.graph),
        pruned_(model.graph),
        groups_(unprotected(layer_groups(model.graph), options.protect, model.graph.origin)),
        spool_(options.output) {
    if (!needs_calibration(options)) return;
    // Each stream may keep its share of the memory.
    const bool two = options.undo_drift > 0;
    const calib::StreamOptions stream{options.max_ram_bytes / (two ? 2 : 1), folder_beside(options.output)};
    if (options.spread == Spread::kOwl) {
      ratios_ = spread_by_outliers(original_, groups_, *tokens, stream, options.ratio, options.owl, options.quiet);
    }
    stream_.emplace(pruned_, *tokens, stream);
    if (two) original_stream_.emplace(original_, *tokens, stream);
  }

  std::vector<LayerReport> run() {
    const size_t batches = stream_ ? stream_->batches() : 0;
    size_t layers = 0;
    for (const LayerGroup& group : groups_) layers += group.layers.size();
    base::Progress progress("Pruning", groups_.size() * batches + layers);
    progress.set_quiet(options_.quiet);
    std::vector<LayerReport> reports;
    for (size_t g = 0; g < groups_.size(); ++g) {
      const LayerGroup& group = groups_[g];
      const GroupMoments moments = observe(group, progress);
      const GroupInputs inputs = group_inputs(group, moments);
      for (const PrunableLayer& layer : group.layers) {
        reports.push_back(prune(layer, ratios_.empty() ? options_.ratio : ratios_[g], inputs, moments));
        progress.advance();
      }
    }
    return reports;
  }

  // Replaces the weights of the model. After run().
  void install(graph::Graph& graph) { spool_.install(graph); }

 private:
  // Runs the calibration tokens up to the group's input.
  GroupMoments observe(const LayerGroup& group, base::Progress& progress) {
    GroupMoments moments;
    for (size_t b = 0; stream_ && b < stream_->batches(); ++b) {
      exec::Values live = stream_->run(b, group.stop);
      const at::Tensor x = live.at(group.input);
      moments.input.add(x, x);
      if (original_stream_) {
        exec::Values wanted = original_stream_->run(b, group.stop);
        moments.drift.add(wanted.at(group.input) - x, x);
        for (const PrunableLayer& layer : group.layers) {
          const ValueId h = layer.residual;
          if (h == graph::kNone || !live.count(h)) continue;
          moments.residual[h].add(wanted.at(h) - live.at(h), x);
        }
        original_stream_->put(b, std::move(wanted));
      }
      stream_->put(b, std::move(live));
      progress.advance();
    }
    if (stream_) stream_->release_weights(reached_, group.stop);
    if (original_stream_) original_stream_->release_weights(reached_, group.stop);
    forget_weights(group.stop);
    reached_ = group.stop;
    base::release_freed_memory();
    return moments;
  }

  // Pruned weights that every batch has passed are in the spool and not needed here again.
  void forget_weights(NodeId end) {
    for (NodeId n = reached_; n < end; ++n) {
      for (const ValueId id : pruned_.node(n).inputs) {
        if (id != graph::kNone && waiting_.erase(id) > 0) pruned_.value(id).weight = original_.value(id).weight;
      }
    }
  }

  GroupInputs group_inputs(const LayerGroup& group, const GroupMoments& moments) {
    GroupInputs inputs;
    if (!stream_) return inputs;
    const std::string& name = group.layers.front().name;
    inputs.hessian = moments.input.mean(name);
    if (!options_.method.needs_hessian() && !original_stream_) return inputs;
    inputs.factor = factor_hessian(inputs.hessian, options_.method.damping, name);
    if (inputs.factor->damping > options_.method.damping && options_.notice) {
      options_.notice(fmt::format("layer '{}': the Hessian of its inputs needed damping {} instead of {}", name,
                                  inputs.factor->damping, options_.method.damping));
    }
    return inputs;
  }

  // The weight that undoes the drift as well as a linear map of the inputs can, with the damping pulling towards `w`:
  //   w + share (w D + R) (H + damping)^-1,  D, R the moments of drift
  at::Tensor undo_drift(const at::Tensor& w, const PrunableLayer& layer, const GroupInputs& inputs, const GroupMoments& moments) {
    if (!original_stream_) return w;
    at::Tensor rise = at::mm(w.to(at::kDouble), moments.drift.mean(layer.name));
    const auto residual = moments.residual.find(layer.residual);
    if (residual != moments.residual.end()) rise.add_(residual->second.mean(layer.name));
    return w.add(at::mm(rise, inputs.factor->inverse).mul(options_.undo_drift).to(at::kFloat));
  }

  at::Tensor read_weight(const PrunableLayer& layer) {
    const graph::Weight& weight = *original_.value(layer.weight).weight;
    const auto* encoded = std::get_if<codec::EncodedTensor>(&weight);
    if (encoded != nullptr && codec::is_tile(encoded->dtype)) {
      fail(ErrorCode::kUnsupported, "[prune] '{}': tensor '{}' is packed as {} already: prune the original, then quantize",
           original_.origin, layer.name, codec::info(encoded->dtype).name);
    }
    const at::Tensor w = exec::dense_weight(weight);
    const at::Tensor bad = at::isfinite(w).logical_not();
    if (!bad.any().item<bool>()) return w;
    const int64_t index = bad.to(at::kByte).argmax().item<int64_t>();
    fail(ErrorCode::kInvalidArgument, "[prune] '{}': tensor '{}': row {}, column {} is {}; weights must be finite",
         original_.origin, layer.name, index / w.size(1), index % w.size(1), w.reshape({-1})[index].item<float>());
  }

  LayerReport prune(const PrunableLayer& layer, double ratio, const GroupInputs& inputs, const GroupMoments& moments) {
    const at::Tensor w = undo_drift(read_weight(layer), layer, inputs, moments);
    const PrunedMatrix pruned = prune_matrix(w, inputs, options_.method, ratio, layer.name);
    const auto* dense = std::get_if<at::Tensor>(&*original_.value(layer.weight).weight);
    const at::Tensor stored = pruned.weight.to(dense != nullptr ? dense->scalar_type() : at::kFloat);
    spool_.put(layer.weight, stored, options_.method.pattern);
    if (stream_) {
      pruned_.value(layer.weight).weight = stored;
      waiting_.insert(layer.weight);
    }
    LayerReport report{layer.name, w.size(0), w.size(1), stored.count_nonzero().item<int64_t>(), 0, std::nullopt};
    report.ratio = options_.method.pattern.is_structured() ? options_.method.pattern.ratio() : ratio;
    if (inputs.hessian.defined()) {
      const double energy = output_error(at::zeros_like(w), w, inputs.hessian);
      report.relative_error = energy > 0 ? output_error(stored, w, inputs.hessian) / energy : 0;
    }
    if (w.count_nonzero().item<int64_t>() == 0 && options_.notice) {
      options_.notice(fmt::format("layer '{}' is all zero: there is nothing in it to prune", layer.name));
    }
    return report;
  }

  const PruneOptions& options_;
  const graph::Graph& original_;
  graph::Graph pruned_;
  const std::vector<LayerGroup> groups_;
  std::vector<double> ratios_;  // of each group; empty: all options_.ratio
  WeightSpool spool_;
  std::optional<calib::TokenStream> stream_, original_stream_;
  NodeId reached_ = 0;         // the node that every batch stands before
  std::set<ValueId> waiting_;  // pruned weights that the stream has yet to use
};

}  // namespace

bool needs_calibration(const PruneOptions& options) {
  const LayerMethod& method = options.method;
  return method.criterion->needs_calibration() || method.needs_hessian() || options.spread == Spread::kOwl;
}

std::vector<LayerReport> prune_language_model(import::LanguageModel& model, const calib::CalibrationTokens* tokens,
                                              const PruneOptions& options) {
  check_options(options, tokens);
  check_unpruned(model.graph, unprotected(layer_groups(model.graph), options.protect, model.graph.origin));
  ModelPruner pruner(model, tokens, options);
  std::vector<LayerReport> reports = pruner.run();
  pruner.install(model.graph);
  return reports;
}

}  // namespace packlight::prune

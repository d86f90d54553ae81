#include "prune/prune_structured.h"

#include <ATen/ATen.h>
#include <fnmatch.h>

#include <algorithm>

#include "base/fail.h"
#include "base/progress.h"
#include "calib/second_moment.h"
#include "graph/cost.h"
#include "prune/reader_gradients.h"

namespace packlight::prune {
namespace {

using graph::Coupling;
using graph::Graph;
using graph::Group;
using graph::NodeId;

bool matches(const std::string& pattern, const Graph& graph, const Group& group) {
  if (fnmatch(pattern.c_str(), group.name.c_str(), 0) == 0) return true;
  return std::any_of(group.slots.begin(), group.slots.end(), [&](const graph::GroupSlot& slot) {
    return fnmatch(pattern.c_str(), graph.value(slot.weight).name.c_str(), 0) == 0;
  });
}

// Groups that may lose units, as indices.
std::vector<size_t> open_groups(const Graph& graph, const Coupling& coupling,
                                const StructuredOptions& options) {
  std::vector<bool> is_protected(coupling.groups().size(), false);
  for (const std::string& pattern : options.protect) {
    bool any = false;
    for (size_t g = 0; g < coupling.groups().size(); ++g) {
      if (!matches(pattern, graph, coupling.groups()[g])) continue;
      is_protected[g] = any = true;
    }
    if (!any)
      fail(ErrorCode::kInvalidArgument,
           "[prune] --protect '{}' matches no group and no weight of one (inspect --groups lists "
           "them)",
           pattern);
  }
  std::vector<size_t> open;
  for (size_t g = 0; g < coupling.groups().size(); ++g) {
    const Group& group = coupling.groups()[g];
    const bool kind =
        std::find(options.kinds.begin(), options.kinds.end(), group.kind) != options.kinds.end();
    if (kind && group.blocked.empty() && group.units > 1 && !is_protected[g] &&
        !(group.parent >= 0 && group.per_parent < 2))
      open.push_back(g);
  }
  if (open.empty())
    fail(ErrorCode::kInvalidArgument,
         "[prune] '{}' has no group of that kind that may lose units (inspect --groups says why)",
         graph.name);
  return open;
}

// Moments of a consumer's inputs.
struct Moments {
  calib::SecondMoment second, first;  // first: with ones
  int waiting = 0;                    // groups that are not ranked yet
};

class Ranker {
 public:
  Ranker(const Graph& graph, const Coupling& coupling, const std::vector<size_t>& open,
         const UnitCriterion& criterion, const StructuredOptions& options)
      : graph_(graph), coupling_(coupling), criterion_(criterion), options_(options) {
    for (const size_t g : open) {
      consumers_.push_back(consumers_of(graph, coupling.groups()[g]));
      candidates_.push_back({g, {}});
    }
  }

  std::vector<Candidate> run(const std::vector<exec::Values>& batches) {
    const EvidenceNeeds needs = criterion_.needs();
    if (needs.any()) find_readers();
    if (needs.gradients) take_gradients(batches, needs.next_tokens);
    if (needs.moments) {
      rank_layer_by_layer(batches);
    } else {
      for (size_t i = 0; i < candidates_.size(); ++i) rank(i);
    }
    return std::move(candidates_);
  }

 private:
  void find_readers() {
    for (size_t i = 0; i < candidates_.size(); ++i) {
      for (const Consumer& consumer : consumers_[i]) readers_[consumer.node].push_back(i);
      if (consumers_[i].empty())
        fail(ErrorCode::kInvalidArgument,
             "[prune] group '{}' has no reader that criterion {} can look at: --protect it, or "
             "take another criterion",
             coupling_.groups()[candidates_[i].group].name, criterion_.name());
    }
  }

  void take_gradients(const std::vector<exec::Values>& batches, bool next_tokens) {
    std::vector<NodeId> nodes;
    for (const auto& [node, waiting] : readers_) nodes.push_back(node);
    const bool tokens = options_.is_language_model;
    const GradientProbe probe = tokens && next_tokens
                                    ? next_token_probe(graph_)
                                    : curvature_probe(graph_, tokens, options_.seed);
    gradients_ = reader_gradients(graph_, nodes, batches, probe,
                                  {.rows = options_.rows,
                                   .samples = options_.gradient_samples,
                                   .samples_at_once = tokens ? 1 : 0,
                                   .quiet = options_.quiet});
  }

  // A group is ranked as soon as all that read it have been seen.
  void rank_layer_by_layer(const std::vector<exec::Values>& batches) {
    for (const auto& [node, waiting] : readers_)
      moments_[node].waiting = static_cast<int>(waiting.size());
    calib::ValueStream stream(graph_, batches, options_.refitting.stream);
    base::Progress progress("Ranking units", readers_.size());
    progress.set_quiet(options_.quiet);
    NodeId done = 0;
    for (const auto& [node, waiting] : readers_) {
      observe(stream, node);
      stream.release_weights(done, node);
      done = node;
      for (const size_t i : waiting) {
        const bool last = std::all_of(consumers_[i].begin(), consumers_[i].end(),
                                      [&, at = node](const Consumer& c) { return c.node <= at; });
        if (last) rank(i);
      }
      progress.advance();
    }
  }

  void observe(calib::ValueStream& stream, NodeId id) {
    const auto matrix = calib::LayerMatrix::of(graph_, id);
    Moments& moments = moments_[id];
    for (size_t batch = 0; batch < stream.batches(); ++batch) {
      exec::Values live = stream.run(batch, id);
      const at::Tensor x = live.at(graph_.node(id).inputs[0]);
      const at::Tensor rows = matrix->rows(x, matrix->even_positions(x, options_.rows))[0];
      moments.second.add(rows, rows);
      moments.first.add(at::ones({rows.size(0), 1}), rows);
      stream.put(batch, std::move(live));
    }
  }

  void rank(size_t i) {
    std::vector<InputMoments> moments;
    std::vector<ReaderGradient> gradients;
    for (const Consumer& consumer : consumers_[i]) {
      const std::string& layer = graph_.node(consumer.node).name;
      if (const auto it = moments_.find(consumer.node); it != moments_.end())
        moments.push_back(
            {it->second.second.mean(layer), it->second.first.mean(layer).squeeze(0)});
      if (const auto it = gradients_.find(consumer.node); it != gradients_.end())
        gradients.push_back(it->second);
    }
    const Group& group = coupling_.groups()[candidates_[i].group];
    candidates_[i].ranking = criterion_.rank({graph_, group, consumers_[i], moments, gradients});
    for (const Consumer& consumer : consumers_[i]) {
      const auto it = moments_.find(consumer.node);
      if (it != moments_.end() && --it->second.waiting == 0) moments_.erase(it);
    }
  }

  const Graph& graph_;
  const Coupling& coupling_;
  const UnitCriterion& criterion_;
  const StructuredOptions& options_;
  std::vector<std::vector<Consumer>> consumers_;
  std::vector<Candidate> candidates_;
  std::map<NodeId, std::vector<size_t>> readers_;  // node -> candidates
  std::map<NodeId, Moments> moments_;
  std::map<NodeId, ReaderGradient> gradients_;
};

std::vector<GroupReport> report_of(const Coupling& coupling, const std::vector<size_t>& open,
                                   const Coupling::Removed& removed) {
  std::vector<GroupReport> reports;
  for (const size_t g : open) {
    const Group& group = coupling.groups()[g];
    const int64_t gone = std::count(removed[g].begin(), removed[g].end(), true);
    reports.push_back({group.name, group.kind, group.units, group.units - gone});
  }
  return reports;
}

}  // namespace

StructuredReport prune_structured(Graph& graph, const UnitCriterion& criterion,
                                  const std::vector<exec::Values>& batches,
                                  const StructuredOptions& options) {
  const bool needs_data = criterion.needs().any() || options.refit;
  if (needs_data && batches.empty())
    fail(ErrorCode::kInvalidArgument,
         "[prune] criterion {}{} looks at calibration data, and there is none", criterion.name(),
         options.refit ? " with refitting" : "");
  const Coupling coupling(graph);
  const std::vector<size_t> open = open_groups(graph, coupling, options);
  const std::vector<Candidate> candidates =
      Ranker(graph, coupling, open, criterion, options).run(batches);
  const auto cost = [&](const Coupling::Removed& removed) {
    Graph sizes = coupling.cut(graph, removed, true);
    graph::bind_input_shapes(sizes, options.input_shapes);
    return graph::total_cost(sizes);
  };
  const Selection selection = select_units(coupling, candidates, cost, options.selection);
  Graph pruned = graph;
  StructuredReport report{
      selection.before, selection.after, report_of(coupling, open, selection.removed), {}};
  if (options.refit) {
    RefitOptions refitting = options.refitting;
    refitting.quiet = options.quiet;
    report.layers = refit_layers(graph, pruned, coupling, selection.removed, batches, refitting);
  }
  pruned = coupling.cut(pruned, selection.removed);
  pruned.remove_unused();
  graph = std::move(pruned);
  return report;
}

}  // namespace packlight::prune

#pragma once

#include <map>
#include <string>
#include <vector>

#include "calib/value_stream.h"
#include "graph/coupling/coupling.h"
#include "graph/graph.h"
#include "prune/refit_layers.h"
#include "prune/unit_ranking.h"
#include "prune/unit_selection.h"

namespace packlight::prune {

struct StructuredOptions {
  SelectionOptions selection;
  std::vector<graph::GroupKind> kinds = {graph::GroupKind::kChannels,
                                         graph::GroupKind::kHeads};  // that may lose units
  std::vector<std::string>
      protect;        // globs over names of groups and of their weights: these stay whole
  bool refit = true;  // refit_layers() afterwards; needs calibration
  RefitOptions refitting;
  int64_t rows = 16384;  // positions of a batch's inputs that a criterion looks at, at most
  // The sizes of inputs that multiply-accumulates are counted for (graph::bind_input_shapes()).
  std::map<std::string, std::vector<int64_t>> input_shapes;
  // Outputs are logits over tokens: what gradients are taken of (reader_gradients.h).
  bool is_language_model = false;
  int64_t gradient_samples = 0;  // that gradients are taken of, at most; 0: all
  uint64_t seed = 0;             // of what gradients are taken of
  bool quiet = false;
};

struct GroupReport {
  std::string name;
  graph::GroupKind kind;
  int64_t units = 0, kept = 0;
};
struct StructuredReport {
  graph::GraphCost before, after;
  std::vector<GroupReport> groups;  // that could have lost units
  std::vector<RefitReport> layers;
};

// Removes whole units of the coupled-channel groups of a graph: ranks each group's by `criterion`,
// chooses how many go where, cuts, and fits what is left. `batches`: values of the graph's inputs,
// may be empty where neither criterion nor refit looks at data. The graph is replaced by a smaller
// one, or left as it was when something fails. Memory: the weights twice, the moments of the layers
// that read the groups being ranked, and what the streams keep. Errors: InvalidArgument for a
// pattern that matches nothing, no group that may lose units, no data where it is needed; those of
// select_units() and refit_layers().
StructuredReport prune_structured(graph::Graph& graph, const UnitCriterion& criterion,
                                  const std::vector<exec::Values>& batches,
                                  const StructuredOptions& options);

}  // namespace packlight::prune

#include "prune/prepare.h"

#include "exec/evaluate.h"
#include "graph/simplify/simplify.h"

namespace packlight::prune {

void simplify_for_pruning(graph::Graph& graph) {
  graph::SimplifyOptions options;
  options.evaluate = exec::evaluate_node;
  options.inference = false;
  graph::simplify(graph, options);
}

}  // namespace packlight::prune

#include "graph/simplify/simplify.h"

#include <array>

#include "base/interrupt.h"
#include "graph/simplify/fold_affine.h"
#include "graph/simplify/fold_shapes.h"
#include "graph/simplify/fuse_activations.h"
#include "graph/simplify/fuse_attention.h"
#include "graph/simplify/fuse_layer_norm.h"
#include "graph/simplify/merge_common.h"
#include "graph/simplify/remove_dead.h"
#include "graph/simplify/remove_no_ops.h"

namespace packlight::graph {
namespace {

using Options = SimplifyOptions;

struct Pass {
  std::string_view name;
  int (*run)(Graph&, const Options&);
};

constexpr std::array kPasses = {
    // Tidy: less of the same.
    Pass{"remove_dead", [](Graph& g, const Options&) { return remove_dead(g); }},
    Pass{"fold_shapes", [](Graph& g, const Options&) { return fold_shapes(g); }},
    Pass{"fold_constants",
         [](Graph& g, const Options& o) { return fold_constants(g, o.evaluate, o.limits); }},
    Pass{"remove_no_ops", [](Graph& g, const Options& o) { return remove_no_ops(g, o.inference); }},
    Pass{"merge_movement", [](Graph& g, const Options&) { return merge_movement(g); }},
    Pass{"merge_weights",
         [](Graph& g, const Options& o) { return merge_weights(g, o.merge_parameters); }},
    Pass{"merge_nodes", [](Graph& g, const Options&) { return merge_nodes(g); }},
    // Recognize functions, while their constants still stand where the exporter put them.
    Pass{"fuse_hard_sigmoid", [](Graph& g, const Options&) { return fuse_hard_sigmoid(g); }},
    Pass{"fuse_hard_swish", [](Graph& g, const Options&) { return fuse_hard_swish(g); }},
    Pass{"fuse_gelu", [](Graph& g, const Options&) { return fuse_gelu(g); }},
    Pass{"fuse_layer_norm", [](Graph& g, const Options&) { return fuse_layer_norm(g); }},
    Pass{"fuse_attention",
         [](Graph& g, const Options& o) { return o.fuse_attention ? fuse_attention(g) : 0; }},
    // Then move what is left of per-channel arithmetic into the weights.
    Pass{"fold_after_convolution",
         [](Graph& g, const Options& o) { return fold_after_convolution(g, o.inference); }},
    Pass{"fold_before_convolution",
         [](Graph& g, const Options& o) { return fold_before_convolution(g, o.inference); }},
    Pass{"fold_after_linear",
         [](Graph& g, const Options& o) { return o.inference ? fold_after_linear(g) : 0; }},
};

// Far more than any graph took; passes only ever shrink it or bring it closer to a fixed form.
constexpr int kMaxRestarts = 200;

}  // namespace

SimplifyReport simplify(Graph& graph, const SimplifyOptions& options) {
  SimplifyReport report;
  report.nodes_before = static_cast<int>(graph.nodes().size());
  for (const Pass& pass : kPasses) report.passes.push_back({pass.name});
  int restarts = 0;
  for (size_t i = 0; i < kPasses.size() && restarts < kMaxRestarts; ++i) {
    base::check_interrupt();
    const auto before = static_cast<int>(graph.nodes().size());
    const int changes = kPasses[i].run(graph, options);
    report.passes[i].changes += changes;
    report.passes[i].nodes_removed += before - static_cast<int>(graph.nodes().size());
    if (changes == 0) continue;
    ++restarts;
    i = static_cast<size_t>(-1);  // from the first again
  }
  infer_shapes(graph);
  report.nodes_after = static_cast<int>(graph.nodes().size());
  return report;
}

}  // namespace packlight::graph

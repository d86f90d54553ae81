#pragma once

#include <functional>
#include <string>
#include <vector>

#include "calib/value_stream.h"
#include "graph/coupling/coupling.h"
#include "graph/graph.h"

namespace packlight::prune {

struct RefitOptions {
  double damping =
      0.01;  // share of the mean square of the inputs: how strongly weights keep to what they were
  int64_t rows =
      16384;  // positions of a batch's inputs that a layer looks at, at most, spread evenly
  calib::ValueStreamOptions stream = {};
  bool quiet = false;  // no progress bar
};

struct RefitReport {
  std::string layer;
  double before = 0,
         after =
             0;  // mean square of the outputs' difference to the original's, relative to their own
};

// Fits what is left of each layer to what the original computes, in the order they run: layer by
// layer, with x the inputs that the network pruned and refitted so far gives it, y the original's
// outputs that are left,
//   w' = w + (y - x w^T)^T x (x^T x + damping mean(diag) I)^-1, and the bias by the mean that
//   remains.
// A BatchNormalization takes up what has changed of its inputs' mean and variance.
// `cut`: coupling.cut(original, removed); its weights change. `batches`: inputs of both, by value
// id. Layers whose inputs and weights are those of the original stay as they are. Memory: one
// layer's x^T x, and the values alive between two nodes of both graphs, for all batches. Source:
// least-squares reconstruction as in arXiv:2302.04089 (ZipLM) and arXiv:2501.09412 (FASP); differs:
// inputs are those of the pruned network, targets the original's. Errors: those of exec; Internal
// for activations that are not finite.
std::vector<RefitReport> refit_layers(const graph::Graph& original, graph::Graph& cut,
                                      const graph::Coupling& coupling,
                                      const graph::Coupling::Removed& removed,
                                      std::vector<exec::Values> batches,
                                      const RefitOptions& options);

// The indices of an axis of a weight that stay.
std::vector<int64_t> kept_indices(const graph::Coupling& coupling,
                                  const graph::Coupling::Removed& removed, graph::ValueId weight,
                                  int axis, int64_t size);

}  // namespace packlight::prune

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "calib/value_stream.h"
#include "graph/coupling/coupling.h"
#include "graph/graph.h"

namespace packlight::prune {

struct RefitOptions {
  // Share of the mean square of the inputs: how strongly weights keep to what they were.
  double damping = 0.01;
  // Positions of a batch's inputs that a layer looks at, at most, spread evenly.
  int64_t rows = 16384;
  // Share of what pruning earlier layers changed that a layer is fitted to undo, 0 to 1: 0 fits
  // only layers that lose inputs, to what they would have computed with them.
  double undo_drift = 1;
  calib::ValueStreamOptions stream = {};
  bool quiet = false;  // no progress bar
};

struct RefitReport {
  std::string layer;
  // Mean square of the outputs' difference to those wanted, relative to their own.
  double before = 0, after = 0;
};

// Makes the layers of `pruned`, a copy of `original`, do without `removed`, one after the other in
// the order they run: weights of columns that go become zero, those of the columns S that stay
//   w'_S = w_S + (y - x_S w_S^T)^T x_S (x_S^T x_S + damping mean(diag) I)^-1,
//   y = (x + undo_drift (x_original - x)) w^T,
// with x the inputs that the layers fitted so far give; the bias by the mean that remains. A
// BatchNormalization takes up what has changed of its inputs' mean and variance. Afterwards
// coupling.cut(pruned, removed) computes what `pruned` does. Layers whose weights others read, too,
// stay as they are. `batches`: inputs by value id. Memory: one layer's x^T x, and the values alive
// between two nodes, of one graph or (undo_drift above 0, normalizations) of both, for all batches.
// Source: least-squares reconstruction as in arXiv:2302.04089 (ZipLM) and arXiv:2501.09412 (FASP).
// Errors: those of exec; Internal for activations that are not finite.
std::vector<RefitReport> refit_layers(const graph::Graph& original, graph::Graph& pruned,
                                      const graph::Coupling& coupling,
                                      const graph::Coupling::Removed& removed,
                                      const std::vector<exec::Values>& batches,
                                      const RefitOptions& options);

// The indices of an axis of a weight that stay.
std::vector<int64_t> kept_indices(const graph::Coupling& coupling,
                                  const graph::Coupling::Removed& removed, graph::ValueId weight,
                                  int axis, int64_t size);

}  // namespace packlight::prune

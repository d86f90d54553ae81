#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "calib/observer.h"
#include "graph/graph.h"

namespace packlight::calib {

// A network's inputs by name.
using Inputs = std::unordered_map<std::string, at::Tensor>;
// How many samples they are: the first dimension of an input, 1 when it has none.
int64_t sample_count(const Inputs& inputs);

// Calls `use` with the inputs of each calibration batch in order, until it returns false; may be
// called again, with the same batches. Shapes may differ from batch to batch.
using Batches = std::function<void(const std::function<bool(const Inputs&)>& use)>;

using Observers = std::unordered_map<graph::ValueId, std::unique_ptr<Observer>>;

// Runs the network over all batches and shows each of `values` to an observer of its own. Memory:
// one batch's run and the observers, whatever the number of batches. A value that no run reached
// (in a network that computes without it) has an observer that saw nothing.
// Errors: InvalidArgument naming value, batch and element for an activation that is not finite; for
// no batches at all; for a value that no node of the graph takes (it is not seen); those of exec.
Observers observe_activations(const graph::Graph& graph, const std::vector<graph::ValueId>& values,
                              const Batches& batches, ObserverKind kind,
                              const ObserverOptions& options = {});

}  // namespace packlight::calib

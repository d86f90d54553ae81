#pragma once

#include <map>
#include <vector>

#include "calib/activation_ranges.h"
#include "graph/graph.h"
#include "quantize/adaround.h"
#include "quantize/insert_codes.h"
#include "quantize/network_layers.h"

namespace packlight::quantize {

struct ReconstructedLayer {
  size_t layer;
  double nearest_error, error;  // AdaRoundResult's
};

// AdaRound on every layer with weight codes in turn: each sees the inputs that the network with all
// earlier layers rounded gives it, and keeps to the outputs of the float network. The new codes go
// into `quantized` and `weights`. Layers without a matrix form, and weights that several layers
// share, keep theirs and are left out of the result.
// Memory: the rows of one layer (at most 256 MB) and one batch's run of both networks. Cost: for
// each layer both networks up to it over options.samples samples, and adaround().
std::vector<ReconstructedLayer> reconstruct_layers(
    const graph::Graph& original, graph::Graph& quantized, const std::vector<NetworkLayer>& layers,
    const std::vector<InsertedLayer>& inserted, std::map<size_t, WeightCodes>& weights,
    const calib::Batches& batches, const AdaRoundOptions& options, bool quiet);

}  // namespace packlight::quantize

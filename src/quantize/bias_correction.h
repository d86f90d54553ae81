#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "calib/activation_ranges.h"
#include "graph/graph.h"
#include "quantize/network_layers.h"

namespace packlight::quantize {

// Layer after layer, in order: subtracts from the bias what quantization adds to each output
// channel on average, E[y' - y], y' with all earlier layers corrected, y the float network's, over
// the first `samples` calibration samples. Layers whose weight is no right factor, or is float, are
// left. Memory: the samples, and up to 1 GB of activations (the rest goes to a temporary file).
// Cost: one run of both networks over the samples.
// Source: arXiv:1906.04721, section 4.2, in its empirical form (appendix D), which sees the error
// of activations, too: with float activations E[y' - y] of the first layer is E[(w' - w) x].
// Returns what it subtracted, by layer.
std::unordered_map<std::string, at::Tensor> correct_biases(const graph::Graph& original,
                                                           graph::Graph& quantized,
                                                           const std::vector<NetworkLayer>& layers,
                                                           const calib::Batches& batches,
                                                           int64_t samples, bool quiet);

// Subtracts a shift [outputs] from what a layer makes: from its bias, from the constant that an Add
// behind it adds alone, else by an Add of its own.
void subtract_from_bias(graph::Graph& graph, const std::string& layer, const at::Tensor& shift);

}  // namespace packlight::quantize

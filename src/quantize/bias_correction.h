#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "calib/activation_ranges.h"
#include "graph/graph.h"
#include "quantize/network_layers.h"

namespace packlight::quantize {

// What rounding the weights adds to each output channel on average: E[(w' - w) x], by layer index,
// over the inputs x of the float network. `rounded`: w' of the layers to look at, in the weight's
// shape. One run over the batches; memory: one batch's run and the rounded weights.
// Source: arXiv:1906.04721, section 4.2 (empirical form).
std::unordered_map<size_t, at::Tensor> output_shifts(
    const graph::Graph& graph, const std::vector<NetworkLayer>& layers,
    const std::unordered_map<size_t, at::Tensor>& rounded, const calib::Batches& batches);

// Subtracts a shift [outputs] from what a layer makes: from its bias, from the constant that an Add
// behind it adds alone, else by an Add of its own.
void subtract_from_bias(graph::Graph& graph, const std::string& layer, const at::Tensor& shift);

}  // namespace packlight::quantize

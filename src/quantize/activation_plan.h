#pragma once

#include <map>
#include <utility>
#include <vector>

#include "calib/observer.h"
#include "graph/graph.h"
#include "quantize/network_layers.h"

namespace packlight::quantize {

// Which activations of a network go to codes, and which of them share scale and zero point.
struct ActivationPlan {
  // QuantizeLinear and DequantizeLinear of one value; every reader reads what comes out of them.
  struct Pair {
    graph::ValueId value;
    int group;
  };
  std::vector<Pair> pairs;
  std::vector<int> group_bits;                                 // by group
  std::map<std::pair<graph::NodeId, size_t>, size_t> readers;  // (node, input) -> pair
};

// Where codes are put.
enum class ActivationForm {
  // Only what layers multiply is rounded, once however many layers take it; everything between them
  // (residual sums, pooling, activation functions) is in float. The more accurate form.
  kInputs,
  // What layers make is rounded, too (behind the Relu or Clip that follows), and codes flow on
  // through operators that only move, pool or concatenate: all values of such a region, and the two
  // terms of a residual sum, share one scale. What engines need that compute in integers
  // throughout.
  kRegions,
};

ActivationPlan plan_activations(const graph::Graph& graph, const std::vector<NetworkLayer>& layers,
                                ActivationForm form);

}  // namespace packlight::quantize

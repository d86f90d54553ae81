#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "calib/observer.h"
#include "graph/graph.h"
#include "quantize/activation_plan.h"
#include "quantize/network_layers.h"
#include "quantize/weight_codes.h"

namespace packlight::quantize {

// A layer of the quantized network; values by name, since ids change.
struct InsertedLayer {
  std::string name;
  std::string codes;  // the I8 weight, "" for a layer whose weight is float
  std::string scales;
};

// A QuantizeLinear and DequantizeLinear of an activation; values by name.
struct InsertedPair {
  size_t pair;        // of the plan
  std::string codes;  // what the QuantizeLinear makes
  std::string scale, zero_point;
  std::string low, high;  // bounds of the Clip before it, "" at 8 bits
};
struct Inserted {
  std::vector<InsertedLayer> layers;
  std::vector<InsertedPair> pairs;
};

// Rewrites the network so that it computes in codes: QuantizeLinear and DequantizeLinear behind
// every value of the plan (parameters by group), and for each layer with weight codes its I8
// weight behind a DequantizeLinear with the exact F32 scales. Codes of fewer bits than 8 are marked
// by the attribute `bits` of their DequantizeLinear (which ONNX lacks: 4 and fewer are written as
// INT4); activations of fewer bits pass a Clip to the range of their codes first. Layers that the
// precision wants in F16 get such a weight. `weights`: by layer index; one weight of several layers
// with the same bits and axis is stored once. Infers shapes again.
Inserted insert_codes(graph::Graph& graph, const std::vector<NetworkLayer>& layers,
                      const ActivationPlan& plan, const std::vector<calib::CodeParameters>& groups,
                      const std::map<size_t, WeightCodes>& weights);

// An F16 weight in the place of a dense one, added to the graph when first asked for and kept in
// `made`. Errors: InvalidArgument naming the weight and the value that is beyond F16.
graph::ValueId half_weight(graph::Graph& graph, graph::ValueId weight,
                           std::unordered_map<graph::ValueId, graph::ValueId>& made);

// The value of a code bound in F32: (code - zero_point) * scale.
float bound_of(const calib::CodeParameters& parameters, int64_t code);

}  // namespace packlight::quantize

#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "quantize/insert_codes.h"

namespace packlight::quantize {

// A quantized network whose weights are float again and go through QuantizeLinear and
// DequantizeLinear as its activations do, so that gradients reach weights and scales. Values that
// freeze() reads are looked up in `graph` by id.
struct TrainingForm {
  struct Weight {
    graph::ValueId master, scales;        // F32; of the weight's shape, of WeightCodes::scales'
    std::string codes_name, scales_name;  // in the quantized network
    std::vector<size_t> layers;           // that use it
  };
  struct Activation {
    graph::ValueId scale, zero_point;  // shared by the pairs of a group
    std::vector<InsertedPair> pairs;
    std::vector<graph::NodeId> quantizers;  // the QuantizeLinear of each pair
  };
  graph::Graph graph;
  std::vector<Weight> weights;
  std::map<int, Activation> activations;  // by group
};

// `quantized`: what insert_codes() made of `original`, with its report; `weights` and `groups` as
// given to it. Masters are the weights of `original`. Narrow codes get the attributes low_code and
// high_code on their QuantizeLinear, in the place of a Clip: the graph is for exec/ alone.
TrainingForm to_training_form(const graph::Graph& original, const graph::Graph& quantized,
                              const std::vector<NetworkLayer>& layers, const Inserted& inserted,
                              const ActivationPlan& plan,
                              const std::map<size_t, WeightCodes>& weights,
                              const std::vector<calib::CodeParameters>& groups);

// Puts what the form holds into `quantized`, `weights` and `groups`: masters as their nearest
// codes, scales, zero points, and all other weights that both graphs have. `quantized` then
// computes what the form computes, bit for bit.
void freeze(const TrainingForm& form, graph::Graph& quantized,
            std::map<size_t, WeightCodes>& weights, std::vector<calib::CodeParameters>& groups);

}  // namespace packlight::quantize

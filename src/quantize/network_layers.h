#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace packlight::quantize {

// How one layer of a network computes.
struct Precision {
  int weight_bits = 8;           // 2 to 8; 0: as they are
  int activation_bits = 8;       // 2 to 8; 0: float
  bool float16_weights = false;  // weight_bits 0: stored as F16

  bool is_float() const { return weight_bits == 0 && activation_bits == 0; }
  bool operator==(const Precision&) const = default;
};
// "int8", "int4" or "wN": weights of so many bits, activations as `base`; "wNaM": both; "f16":
// weights stored as F16, computed in float; "float". Errors: InvalidArgument naming the word.
Precision parse_precision(std::string_view text, const Precision& base);
std::string to_string(const Precision& precision);

// One rule of the form "PATTERN=PRECISION". PATTERN is a glob (* ? [..]) over the whole name of a
// layer's node or of its weight.
struct PrecisionRule {
  std::string pattern;
  Precision precision;
};
// Errors: InvalidArgument for another form.
PrecisionRule parse_precision_rule(std::string_view text, const Precision& base);

// A node that multiplies and adds: Conv, ConvTranspose, MatMul, Gemm.
struct NetworkLayer {
  graph::NodeId node = -1;
  std::string name;                       // the node's
  std::optional<size_t> weight_input;     // absent: a product of two activations
  int64_t weight_axis = 0;                // dimension of the weight along which outputs lie
  std::vector<size_t> activation_inputs;  // that are quantized
  Precision precision;

  graph::ValueId weight(const graph::Graph& graph) const {
    return weight_input ? graph.node(node).inputs[*weight_input] : graph::kNone;
  }
};

// Errors: Unsupported naming what of the network is codes already: Q/DQ nodes, integer operators,
// packed weights.
void refuse_quantized(const graph::Graph& graph, std::string_view verb);

// The layers of the network in order, those in subgraphs left out, each with `body` as precision.
// A convolution whose kernel is computed is no layer. Errors: InvalidArgument for no layer at
// all; Unsupported naming what is quantized already (Q/DQ nodes, integer operators, packed
// weights): quantizing twice hides what the first time cost.
std::vector<NetworkLayer> find_layers(const graph::Graph& graph, const Precision& body);

// `edge` goes to the layers that no other layer comes before, and to those that none comes after;
// then the rules in order, so that the last match wins. Products of two activations have no weight
// bits: they are quantized when the precision quantizes activations.
// Errors: InvalidArgument for a pattern that matches no layer (names some that exist).
void plan_precisions(const graph::Graph& graph, std::vector<NetworkLayer>& layers,
                     const std::optional<Precision>& edge, const std::vector<PrecisionRule>& rules);

}  // namespace packlight::quantize

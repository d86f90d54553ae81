#include "quantize/network_layers.h"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "base/fail.h"
#include "graph/weight.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

// Reads digits at text[at...] -> a number of bits.
std::optional<int> bits_at(std::string_view text, size_t* at) {
  int bits = 0;
  const auto [end, error] = std::from_chars(text.data() + *at, text.data() + text.size(), bits);
  if (error != std::errc() || bits < 2 || bits > 8) return std::nullopt;
  *at = static_cast<size_t>(end - text.data());
  return bits;
}

std::optional<Precision> explicit_bits(std::string_view text, Precision precision) {
  size_t at = 1;
  if (text.substr(0, 3) == "int") at = 3;
  const auto weights = bits_at(text, &at);
  if (!weights) return std::nullopt;
  precision.weight_bits = *weights;
  precision.float16_weights = false;
  if (at == text.size()) return precision;
  if (text[0] != 'w' || text[at] != 'a') return std::nullopt;
  const auto activations = bits_at(text, &++at);
  if (!activations || at != text.size()) return std::nullopt;
  precision.activation_bits = *activations;
  return precision;
}

bool is_float_weight(const Graph& graph, ValueId id) {
  if (id == graph::kNone || !graph.value(id).weight) return false;
  const auto* tensor = std::get_if<at::Tensor>(&*graph.value(id).weight);
  return tensor != nullptr && at::isFloatingType(tensor->scalar_type()) && tensor->dim() >= 2 &&
         tensor->numel() > 0;
}

bool is_float_activation(const Graph& graph, ValueId id) {
  return id != graph::kNone && !graph.value(id).weight &&
         (graph.value(id).type == graph::ElementType::kF32 ||
          graph.value(id).type == graph::ElementType::kUndefined);
}

std::optional<NetworkLayer> layer_of(const Graph& graph, graph::NodeId id) {
  const Node& node = graph.node(id);
  const bool convolution = node.op == "Conv", transposed = node.op == "ConvTranspose",
             gemm = node.op == "Gemm", matmul = node.op == "MatMul";
  if (!node.domain.empty() || !(convolution || transposed || gemm || matmul)) return std::nullopt;
  NetworkLayer layer;
  layer.node = id;
  layer.name = node.name;
  const bool right = is_float_weight(graph, node.inputs[1]);
  const bool left = !right && (matmul || gemm) && is_float_weight(graph, node.inputs[0]);
  if ((convolution || transposed) && !right) return std::nullopt;
  for (size_t i = 0; i < 2; ++i) {
    if ((right && i == 1) || (left && i == 0)) continue;
    if (!is_float_activation(graph, node.inputs[i])) return std::nullopt;
    layer.activation_inputs.push_back(i);
  }
  if (!right && !left) return layer;
  layer.weight_input = right ? 1 : 0;
  const auto rank = static_cast<int64_t>(
      graph::weight_shape(*graph.value(node.inputs[*layer.weight_input]).weight).size());
  const bool flipped = gemm && node.integer(right ? "transB" : "transA", 0) != 0;
  if (convolution) {
    layer.weight_axis = 0;
  } else if (transposed) {
    layer.weight_axis = 1;
  } else {
    layer.weight_axis = right != flipped ? rank - 1 : rank - 2;
  }
  return layer;
}

// Which nodes come after (or, walking back, before) a layer.
std::unordered_set<graph::NodeId> reached(const Graph& graph,
                                          const std::vector<NetworkLayer>& layers, bool forward) {
  std::unordered_set<graph::NodeId> is_layer, nodes;
  for (const NetworkLayer& layer : layers) is_layer.insert(layer.node);
  std::unordered_set<ValueId> values;
  const auto touch = [&](graph::NodeId id) {
    const Node& node = graph.node(id);
    const auto &from = forward ? node.inputs : node.outputs,
               &to = forward ? node.outputs : node.inputs;
    const bool hit = std::any_of(from.begin(), from.end(),
                                 [&](ValueId value) { return values.count(value) != 0; });
    if (hit) nodes.insert(id);
    if (hit || is_layer.count(id) != 0)
      for (const ValueId value : to)
        if (value != graph::kNone) values.insert(value);
  };
  const auto count = static_cast<graph::NodeId>(graph.nodes().size());
  for (graph::NodeId i = 0; i < count; ++i) touch(forward ? i : count - 1 - i);
  return nodes;
}

bool matches(const PrecisionRule& rule, const Graph& graph, const NetworkLayer& layer) {
  if (fnmatch(rule.pattern.c_str(), layer.name.c_str(), 0) == 0) return true;
  const ValueId weight = layer.weight(graph);
  return weight != graph::kNone &&
         fnmatch(rule.pattern.c_str(), graph.value(weight).name.c_str(), 0) == 0;
}

}  // namespace

Precision parse_precision(std::string_view text, const Precision& base) {
  if (text == "float") return {0, 0, false};
  if (text == "f16") return {0, 0, true};
  if (text.size() > 1 && (text[0] == 'w' || text.substr(0, 3) == "int")) {
    if (const auto precision = explicit_bits(text, base)) return *precision;
  }
  fail(ErrorCode::kInvalidArgument,
       "[quantize] precision '{}': it must be int8, int4, wN or wNaM (2 to 8 bits each), f16 or "
       "float",
       text);
}

std::string to_string(const Precision& precision) {
  const auto part = [](int bits, bool half) {
    return bits > 0 ? std::to_string(bits) : std::string(half ? "16" : "32");
  };
  if (precision.is_float()) return precision.float16_weights ? "f16" : "float";
  return fmt::format("w{}a{}", part(precision.weight_bits, precision.float16_weights),
                     part(precision.activation_bits, false));
}

PrecisionRule parse_precision_rule(std::string_view text, const Precision& base) {
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0) {
    fail(ErrorCode::kInvalidArgument,
         "[quantize] override '{}': it must have the form PATTERN=PRECISION", text);
  }
  return {std::string(text.substr(0, equals)), parse_precision(text.substr(equals + 1), base)};
}

void refuse_quantized(const Graph& graph, std::string_view verb) {
  const std::set<std::string_view> quantized = {
      "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger",
      "ConvInteger",    "QLinearMatMul",    "QLinearConv",           "MatMulNBits"};
  for (const Node& node : graph.nodes()) {
    if (quantized.count(node.op) == 0) continue;
    fail(ErrorCode::kUnsupported,
         "[{}] '{}' is quantized already (node '{}' is a {}): start from the float network", verb,
         graph.name, node.name, node.op);
  }
  for (const graph::Value& value : graph.values()) {
    if (value.weight && std::holds_alternative<codec::EncodedTensor>(*value.weight))
      fail(ErrorCode::kUnsupported, "[{}] '{}': weight '{}' is packed already ({})", verb,
           graph.name, value.name, graph::weight_format_name(*value.weight));
  }
}

std::vector<NetworkLayer> find_layers(const Graph& graph, const Precision& body) {
  refuse_quantized(graph, "quantize");
  std::vector<NetworkLayer> layers;
  for (graph::NodeId id = 0; id < static_cast<graph::NodeId>(graph.nodes().size()); ++id) {
    if (auto layer = layer_of(graph, id)) {
      layer->precision = body;
      layers.push_back(std::move(*layer));
    }
  }
  if (layers.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[quantize] '{}': there is no layer to quantize: no Conv or ConvTranspose with a constant "
         "kernel, no MatMul and no Gemm",
         graph.name);
  }
  return layers;
}

void plan_precisions(const Graph& graph, std::vector<NetworkLayer>& layers,
                     const std::optional<Precision>& edge,
                     const std::vector<PrecisionRule>& rules) {
  if (edge) {
    const auto after = reached(graph, layers, true), before = reached(graph, layers, false);
    for (NetworkLayer& layer : layers) {
      if (after.count(layer.node) == 0 || before.count(layer.node) == 0) layer.precision = *edge;
    }
  }
  for (const PrecisionRule& rule : rules) {
    bool matched = false;
    for (NetworkLayer& layer : layers) {
      if (!matches(rule, graph, layer)) continue;
      layer.precision = rule.precision;
      matched = true;
    }
    if (matched) continue;
    std::string examples;
    for (size_t i = 0; i < std::min<size_t>(3, layers.size()); ++i)
      examples += (i > 0 ? ", " : "") + layers[i].name;
    fail(ErrorCode::kInvalidArgument,
         "[quantize] override pattern '{}' matches no layer; names look like {}", rule.pattern,
         examples);
  }
  for (NetworkLayer& layer : layers) {
    if (!layer.weight_input) layer.precision.weight_bits = 0;
  }
}

}  // namespace packlight::quantize

#include "quantize/insert_codes.h"

#include <ATen/ATen.h>

#include <tuple>
#include <unordered_map>

#include "base/fail.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

class Inserter {
 public:
  Inserter(Graph& graph, const std::vector<NetworkLayer>& layers, const ActivationPlan& plan,
           const std::vector<calib::CodeParameters>& groups,
           const std::map<size_t, WeightCodes>& weights)
      : graph_(graph),
        layers_(layers),
        plan_(plan),
        groups_(groups),
        weights_(weights),
        pair_outputs_(plan.pairs.size(), graph::kNone) {
    for (size_t i = 0; i < layers.size(); ++i) layer_at_[layers[i].node] = i;
  }

  Inserted run() {
    const std::vector<Node> nodes = graph_.nodes();
    for (NodeId id = 0; id < static_cast<NodeId>(nodes.size()); ++id) {
      Node node = nodes[id];
      block_ = node.block;
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        const auto reader = plan_.readers.find({id, i});
        if (reader != plan_.readers.end()) node.inputs[i] = pair_output(reader->second);
      }
      if (const auto it = layer_at_.find(id); it != layer_at_.end())
        insert_weight(it->second, node);
      nodes_.push_back(std::move(node));
    }
    graph_.replace_nodes(std::move(nodes_));
    graph_.remove_unused();
    graph::infer_shapes(graph_);
    graph::verify(graph_);
    return std::move(inserted_);
  }

 private:
  ValueId constant(const std::string& base, const at::Tensor& tensor) {
    return graph_.add_weight(graph_.free_name(base), tensor);
  }

  ValueId emit(const std::string& op, const std::string& output, std::vector<ValueId> inputs,
               std::map<std::string, graph::Attribute> attributes = {}) {
    Node node;
    graph::Value made;
    made.name = graph_.free_name(output);
    node.name = made.name + "/" + op;
    node.op = op;
    node.inputs = std::move(inputs);
    node.outputs = {graph_.add_value(std::move(made))};
    node.attributes = std::move(attributes);
    node.block = block_;
    nodes_.push_back(node);
    return node.outputs[0];
  }

  // Behind a value, when first read.
  ValueId pair_output(size_t pair) {
    if (pair_outputs_[pair] != graph::kNone) return pair_outputs_[pair];
    const auto [value, group] = plan_.pairs[pair];
    const calib::CodeParameters& p = groups_[group];
    const std::string name = graph_.value(value).name;
    const int bits = plan_.group_bits[group];
    const bool is_signed = p.low_code < 0;
    InsertedPair done{pair, "", "", "", "", ""};
    ValueId x = value;
    if (bits < 8) {
      const auto bound = [&](const char* suffix, int64_t code) {
        return constant(name + suffix, at::scalar_tensor(bound_of(p, code), at::kFloat));
      };
      const ValueId low = bound("_low", p.low_code), high = bound("_high", p.high_code);
      done.low = graph_.value(low).name, done.high = graph_.value(high).name;
      x = emit("Clip", name + "_clipped", {x, low, high});
    }
    const ValueId scale = constant(name + "_scale", at::scalar_tensor(p.scale, at::kFloat));
    const ValueId zero = constant(
        name + "_zero_point", at::scalar_tensor(p.zero_point, is_signed ? at::kChar : at::kByte));
    const ValueId codes = emit("QuantizeLinear", name + "_quantized", {x, scale, zero});
    done.codes = graph_.value(codes).name, done.scale = graph_.value(scale).name;
    done.zero_point = graph_.value(zero).name;
    inserted_.pairs.push_back(std::move(done));
    return pair_outputs_[pair] =
               emit("DequantizeLinear", name + "_dequantized", {codes, scale, zero});
  }

  struct StoredWeight {
    ValueId codes, scales, dense;
  };

  void insert_weight(size_t index, Node& node) {
    const NetworkLayer& layer = layers_[index];
    InsertedLayer done{layer.name, "", ""};
    const auto codes = weights_.find(index);
    if (codes != weights_.end()) {
      const ValueId weight = node.inputs[*layer.weight_input];
      const auto key = std::tuple(weight, codes->second.bits, codes->second.axis);
      const auto [it, added] = stored_.emplace(key, StoredWeight{});
      if (added) it->second = store(weight, codes->second);
      node.inputs[*layer.weight_input] = it->second.dense;
      done.codes = graph_.value(it->second.codes).name;
      done.scales = graph_.value(it->second.scales).name;
    } else if (layer.weight_input && layer.precision.float16_weights) {
      ValueId& weight = node.inputs[*layer.weight_input];
      weight = half_weight(graph_, weight, half_);
    }
    inserted_.layers.push_back(std::move(done));
  }

  StoredWeight store(ValueId weight, const WeightCodes& w) {
    const std::string name = graph_.value(weight).name;
    StoredWeight stored;
    stored.codes = constant(name + "_quantized", w.codes);
    stored.scales = constant(name + "_scale", w.scales);
    const ValueId zero = constant(name + "_zero_point", at::zeros(w.scales.sizes(), at::kChar));
    std::map<std::string, graph::Attribute> attributes;
    if (w.scales.dim() == 1) attributes["axis"] = w.axis;
    if (w.bits != 8) attributes["bits"] = int64_t{w.bits};
    stored.dense = emit("DequantizeLinear", name + "_dequantized",
                        {stored.codes, stored.scales, zero}, std::move(attributes));
    return stored;
  }

  Graph& graph_;
  const std::vector<NetworkLayer>& layers_;
  const ActivationPlan& plan_;
  const std::vector<calib::CodeParameters>& groups_;
  const std::map<size_t, WeightCodes>& weights_;
  std::vector<ValueId> pair_outputs_;
  std::unordered_map<NodeId, size_t> layer_at_;
  std::map<std::tuple<ValueId, int, int64_t>, StoredWeight> stored_;
  std::unordered_map<ValueId, ValueId> half_;
  Inserted inserted_;
  std::vector<Node> nodes_;
  std::string block_;
};

}  // namespace

ValueId half_weight(Graph& graph, ValueId weight, std::unordered_map<ValueId, ValueId>& made) {
  const auto [it, added] = made.emplace(weight, graph::kNone);
  if (!added) return it->second;
  const std::string name = graph.value(weight).name;
  const auto& dense = std::get<at::Tensor>(*graph.value(weight).weight);
  const at::Tensor half = dense.to(at::kHalf);
  if (const at::Tensor beyond = at::isinf(half); beyond.any().item<bool>()) {
    fail(
        ErrorCode::kInvalidArgument,
        "[quantize] weight '{}' holds {}, and F16 ends at 65504: its layers need another precision "
        "than f16",
        name, dense.masked_select(beyond)[0].item<float>());
  }
  return it->second = graph.add_weight(graph.free_name(name + "_f16"), half);
}

float bound_of(const calib::CodeParameters& parameters, int64_t code) {
  return static_cast<float>(code - parameters.zero_point) * parameters.scale;
}

Inserted insert_codes(Graph& graph, const std::vector<NetworkLayer>& layers,
                      const ActivationPlan& plan, const std::vector<calib::CodeParameters>& groups,
                      const std::map<size_t, WeightCodes>& weights) {
  return Inserter(graph, layers, plan, groups, weights).run();
}

}  // namespace packlight::quantize

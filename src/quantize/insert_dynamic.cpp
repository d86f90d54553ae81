#include "quantize/insert_dynamic.h"

#include <ATen/ATen.h>

#include <unordered_map>

#include "exec/executor.h"
#include "quantize/insert_codes.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

constexpr int64_t kOnnxFloat = 1;

bool has_bias(const Node& node) { return node.inputs.size() > 2 && node.inputs[2] != graph::kNone; }

class DynamicInserter {
 public:
  DynamicInserter(Graph& graph, const std::vector<NetworkLayer>& layers,
                  const std::map<size_t, WeightCodes>& weights)
      : graph_(graph), weights_(weights) {
    for (const auto& [index, codes] : weights) layer_at_[layers[index].node] = index;
    for (const NetworkLayer& layer : layers)
      if (layer.weight_input && layer.precision.float16_weights)
        half_inputs_[layer.node] = *layer.weight_input;
  }

  void run() {
    const std::vector<Node> nodes = graph_.nodes();
    for (NodeId id = 0; id < static_cast<NodeId>(nodes.size()); ++id) {
      if (const auto layer = layer_at_.find(id); layer != layer_at_.end()) {
        replace(nodes[id], weights_.at(layer->second));
        continue;
      }
      nodes_.push_back(nodes[id]);
      const auto half = half_inputs_.find(id);
      if (half == half_inputs_.end()) continue;
      ValueId& weight = nodes_.back().inputs[half->second];
      weight = half_weight(graph_, weight, halves_);
    }
    graph_.replace_nodes(std::move(nodes_));
    graph_.remove_unused();
    graph::infer_shapes(graph_);
    graph::verify(graph_);
  }

 private:
  struct Codes {
    ValueId codes, scale, zero_point;
  };

  ValueId constant(const std::string& base, const at::Tensor& tensor) {
    return graph_.add_weight(graph_.free_name(base), tensor.contiguous());
  }

  ValueId value(const std::string& base) {
    graph::Value made;
    made.name = graph_.free_name(base);
    return graph_.add_value(std::move(made));
  }

  void emit(const Node& of, const std::string& op, std::vector<ValueId> inputs,
            std::vector<ValueId> outputs, std::map<std::string, graph::Attribute> attributes = {}) {
    Node node;
    node.name = graph_.value(outputs[0]).name + "/" + op;
    node.op = op;
    node.block = of.block;
    node.inputs = std::move(inputs);
    node.outputs = std::move(outputs);
    node.attributes = std::move(attributes);
    nodes_.push_back(std::move(node));
  }

  Codes codes_of(const Node& node, ValueId x) {
    const auto [it, added] = quantized_.emplace(x, Codes{});
    if (!added) return it->second;
    const std::string name = graph_.value(x).name;
    it->second = {value(name + "_quantized"), value(name + "_scale"), value(name + "_zero_point")};
    emit(node, "DynamicQuantizeLinear", {x},
         {it->second.codes, it->second.scale, it->second.zero_point});
    return it->second;
  }

  // A layer's name goes to the operator that multiplies.
  void replace(const Node& node, const WeightCodes& w) {
    const bool convolution = node.op == "Conv";
    const Codes x = codes_of(node, node.inputs[0]);
    const std::string name = graph_.value(node.inputs[1]).name,
                      made = graph_.value(node.outputs[0]).name;
    const bool transposed = node.op == "Gemm" && node.integer("transB", 0) != 0;
    const ValueId codes =
        constant(name + "_quantized", transposed ? w.codes.transpose(0, 1) : w.codes);
    const ValueId sums = value(made + "_integer"), floats = value(made + "_cast"),
                  scale = value(made + "_scale");
    Node product = node;
    product.op = convolution ? "ConvInteger" : "MatMulInteger";
    product.inputs = {x.codes, codes, x.zero_point};
    product.outputs = {sums};
    if (!convolution) product.attributes.clear();
    nodes_.push_back(std::move(product));
    emit(node, "Cast", {sums}, {floats}, {{"to", kOnnxFloat}});
    emit(node, "Mul", {x.scale, constant(name + "_scale", scales_of(node, w))}, {scale});
    if (!has_bias(node)) return emit(node, "Mul", {floats, scale}, {node.outputs[0]});
    const ValueId product_only = value(made + "_scaled");
    emit(node, "Mul", {floats, scale}, {product_only});
    emit(node, "Add", {product_only, bias_of(node, w.codes.dim())}, {node.outputs[0]});
  }

  // What broadcasts to the layer's output, with a Gemm's alpha.
  static at::Tensor scales_of(const Node& node, const WeightCodes& w) {
    const at::Tensor scales = w.scales * node.number("alpha", 1);
    if (node.op != "Conv" || scales.dim() == 0) return scales;
    std::vector<int64_t> shape(w.codes.dim() - 1, 1);
    shape[0] = scales.numel();
    return scales.reshape(shape);
  }

  ValueId bias_of(const Node& node, int64_t rank) {
    const ValueId id = node.inputs[2];
    const double beta = node.op == "Gemm" ? node.number("beta", 1) : 1;
    if (node.op != "Conv" && beta == 1) return id;
    if (!graph_.value(id).weight) return spread_bias(node, id, rank);
    at::Tensor bias = exec::dense_weight(*graph_.value(id).weight) * beta;
    if (node.op == "Conv") bias = bias.reshape(channel_shape(rank));
    return constant(graph_.value(id).name + "_dense", bias);
  }

  static std::vector<int64_t> channel_shape(int64_t rank) {
    std::vector<int64_t> shape(rank - 1, 1);
    shape[0] = -1;
    return shape;
  }

  // A bias that is computed, along the channels of a convolution.
  ValueId spread_bias(const Node& node, ValueId id, int64_t rank) {
    const std::string name = graph_.value(id).name;
    const ValueId shaped = value(name + "_shaped");
    emit(node, "Reshape",
         {id, constant(name + "_shape", at::tensor(channel_shape(rank), at::kLong))}, {shaped});
    return shaped;
  }

  Graph& graph_;
  const std::map<size_t, WeightCodes>& weights_;
  std::unordered_map<NodeId, size_t> layer_at_;
  std::unordered_map<NodeId, size_t> half_inputs_;  // of layers whose weight is stored as F16
  std::unordered_map<ValueId, ValueId> halves_;
  std::unordered_map<ValueId, Codes> quantized_;
  std::vector<Node> nodes_;
};

}  // namespace

bool has_integer_form(const Graph& graph, const NetworkLayer& layer) {
  const Node& node = graph.node(layer.node);
  if (layer.weight_input != size_t{1} || node.op == "ConvTranspose") return false;
  if (node.op != "Gemm") return true;
  const bool scaled_bias =
      has_bias(node) && node.number("beta", 1) != 1 && !graph.value(node.inputs[2]).weight;
  return node.integer("transA", 0) == 0 && !scaled_bias;
}

void insert_dynamic(Graph& graph, const std::vector<NetworkLayer>& layers,
                    const std::map<size_t, WeightCodes>& weights) {
  DynamicInserter(graph, layers, weights).run();
}

}  // namespace packlight::quantize

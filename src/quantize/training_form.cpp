#include "quantize/training_form.h"

#include <ATen/ATen.h>

#include <unordered_map>

#include "base/fail.h"
#include "exec/executor.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

const at::Tensor& form_tensor(const Graph& graph, ValueId id) {
  return std::get<at::Tensor>(*graph.value(id).weight);
}

ValueId find_value(const Graph& graph, const std::string& name) {
  const auto id = graph.find(name);
  if (!id) fail(ErrorCode::kInternal, "[quantize] '{}': no value '{}'", graph.name, name);
  return *id;
}

void set_weight(Graph& graph, const std::string& name, const at::Tensor& tensor) {
  graph.value(find_value(graph, name)).weight = tensor;
}

class Former {
 public:
  Former(const Graph& original, const Graph& quantized, const std::vector<NetworkLayer>& layers,
         const Inserted& inserted, const ActivationPlan& plan,
         const std::map<size_t, WeightCodes>& weights,
         const std::vector<calib::CodeParameters>& groups)
      : original_(original),
        layers_(layers),
        inserted_(inserted),
        plan_(plan),
        weights_(weights),
        groups_(groups) {
    form_.graph = quantized;
  }

  TrainingForm run() {
    add_masters();
    for (const InsertedPair& pair : inserted_.pairs) share_scale(pair);
    for (Node node : std::vector<Node>(form_.graph.nodes())) {
      if (node.op == "DequantizeLinear") {
        if (const auto it = by_codes_.find(node.inputs[0]); it != by_codes_.end())
          quantize_master(it->second, node);
        if (const auto it = pair_at_.find(node.inputs[0]); it != pair_at_.end())
          use_shared(*it->second, node);
      } else if (node.op == "QuantizeLinear") {
        if (const auto it = pair_at_.find(node.outputs[0]); it != pair_at_.end())
          narrow(*it->second, node);
      }
      nodes_.push_back(std::move(node));
    }
    form_.graph.replace_nodes(std::move(nodes_));
    graph::infer_shapes(form_.graph);
    return std::move(form_);
  }

 private:
  void add_masters() {
    for (const auto& [index, codes] : weights_) {
      const InsertedLayer& layer = inserted_.layers[index];
      const ValueId id = find_value(form_.graph, layer.codes);
      if (const auto it = by_codes_.find(id); it != by_codes_.end()) {
        form_.weights[it->second].layers.push_back(index);
        continue;
      }
      const ValueId source = layers_[index].weight(original_);
      const ValueId master =
          form_.graph.add_weight(form_.graph.free_name(original_.value(source).name + "_master"),
                                 exec::dense_weight(*original_.value(source).weight).clone());
      by_codes_[id] = form_.weights.size();
      form_.weights.push_back(
          {master, find_value(form_.graph, layer.scales), layer.codes, layer.scales, {index}});
    }
  }

  void share_scale(const InsertedPair& pair) {
    pair_at_[find_value(form_.graph, pair.codes)] = &pair;
    TrainingForm::Activation& shared = form_.activations[plan_.pairs[pair.pair].group];
    if (shared.pairs.empty()) {
      shared.scale = find_value(form_.graph, pair.scale);
      shared.zero_point = find_value(form_.graph, pair.zero_point);
    }
    shared.pairs.push_back(pair);
  }

  void quantize_master(size_t index, Node& dequantize) {
    const TrainingForm::Weight& weight = form_.weights[index];
    const WeightGrid grid = weight_grid(weights_.at(weight.layers[0]).bits);
    graph::Value made;
    made.name = form_.graph.free_name(weight.codes_name + "_trained");
    Node node;
    node.name = made.name + "/QuantizeLinear";
    node.op = "QuantizeLinear";
    node.block = dequantize.block;
    node.inputs = {weight.master, dequantize.inputs[1], dequantize.inputs[2]};
    node.outputs = {form_.graph.add_value(std::move(made))};
    if (const auto axis = dequantize.attributes.find("axis"); axis != dequantize.attributes.end())
      node.attributes["axis"] = axis->second;
    node.attributes["low_code"] = static_cast<double>(grid.low);
    node.attributes["high_code"] = static_cast<double>(grid.high);
    dequantize.inputs[0] = node.outputs[0];
    nodes_.push_back(std::move(node));
  }

  void use_shared(const InsertedPair& pair, Node& node) {
    const TrainingForm::Activation& shared = form_.activations.at(plan_.pairs[pair.pair].group);
    node.inputs[1] = shared.scale;
    node.inputs[2] = shared.zero_point;
  }

  void narrow(const InsertedPair& pair, Node& node) {
    const int group = plan_.pairs[pair.pair].group;
    use_shared(pair, node);
    form_.activations.at(group).quantizers.push_back(static_cast<NodeId>(nodes_.size()));
    if (pair.low.empty()) return;
    node.inputs[0] = form_.graph.node(form_.graph.value(node.inputs[0]).producer).inputs[0];
    node.attributes["low_code"] = static_cast<double>(groups_[group].low_code);
    node.attributes["high_code"] = static_cast<double>(groups_[group].high_code);
  }

  const Graph& original_;
  const std::vector<NetworkLayer>& layers_;
  const Inserted& inserted_;
  const ActivationPlan& plan_;
  const std::map<size_t, WeightCodes>& weights_;
  const std::vector<calib::CodeParameters>& groups_;
  TrainingForm form_;
  std::unordered_map<ValueId, size_t> by_codes_;  // I8 weight -> form_.weights
  std::unordered_map<ValueId, const InsertedPair*> pair_at_;
  std::vector<Node> nodes_;
};

}  // namespace

TrainingForm to_training_form(const Graph& original, const Graph& quantized,
                              const std::vector<NetworkLayer>& layers, const Inserted& inserted,
                              const ActivationPlan& plan,
                              const std::map<size_t, WeightCodes>& weights,
                              const std::vector<calib::CodeParameters>& groups) {
  return Former(original, quantized, layers, inserted, plan, weights, groups).run();
}

void freeze(const TrainingForm& form, Graph& quantized, std::map<size_t, WeightCodes>& weights,
            std::vector<calib::CodeParameters>& groups) {
  for (ValueId id = 0; id < static_cast<ValueId>(quantized.values().size()); ++id) {
    graph::Value& value = quantized.value(id);
    const auto trained = value.weight ? form.graph.find(value.name) : std::nullopt;
    if (trained && form.graph.value(*trained).weight)
      value.weight = form.graph.value(*trained).weight;
  }
  for (const TrainingForm::Weight& weight : form.weights) {
    WeightCodes codes = weights.at(weight.layers[0]);
    const WeightGrid grid = weight_grid(codes.bits);
    codes.scales = form_tensor(form.graph, weight.scales).clone();
    codes.codes =
        at::clamp(at::round(form_tensor(form.graph, weight.master) / spread_scales(codes)),
                  grid.low, grid.high)
            .to(at::kChar)
            .contiguous();
    set_weight(quantized, weight.codes_name, codes.codes);
    set_weight(quantized, weight.scales_name, codes.scales);
    for (const size_t layer : weight.layers) weights.at(layer) = codes;
  }
  for (const auto& [group, activation] : form.activations) {
    calib::CodeParameters& p = groups[group];
    const at::Tensor &scale = form_tensor(form.graph, activation.scale),
                     &zero = form_tensor(form.graph, activation.zero_point);
    p.scale = scale.item<float>();
    p.zero_point = zero.item<int64_t>();
    for (const InsertedPair& pair : activation.pairs) {
      set_weight(quantized, pair.scale, scale.clone());
      set_weight(quantized, pair.zero_point, zero.clone());
      if (pair.low.empty()) continue;
      set_weight(quantized, pair.low, at::scalar_tensor(bound_of(p, p.low_code), at::kFloat));
      set_weight(quantized, pair.high, at::scalar_tensor(bound_of(p, p.high_code), at::kFloat));
    }
  }
}

}  // namespace packlight::quantize

#include "quantize/bias_correction.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>

#include "base/fail.h"
#include "base/progress.h"
#include "calib/activation_store.h"
#include "exec/executor.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

bool is_convolution(const Node& node) { return node.op == "Conv" || node.op == "ConvTranspose"; }

// Sums of y over everything but its channels.
at::Tensor channel_sums(const Node& node, const at::Tensor& y) {
  const int64_t axis = is_convolution(node) ? 1 : y.dim() - 1;
  return y.movedim(axis, 0).reshape({y.size(axis), -1}).to(at::kDouble).sum(1);
}

// The channels of the output lie along its last axis (or 1 for convolutions) only when the weight
// is the right factor.
bool has_channels(const NetworkLayer& layer) {
  return layer.weight_input && *layer.weight_input == 1;
}

void add_to(Graph& graph, ValueId id, const at::Tensor& delta, const at::Tensor& old) {
  graph.value(id).weight = (old.to(at::kFloat) + delta.to(at::kFloat)).contiguous();
  graph.value(id).type = graph::ElementType::kF32;
}

int uses_of(const Graph& graph, ValueId id) {
  auto count = static_cast<int>(std::count(graph.outputs.begin(), graph.outputs.end(), id));
  for (const Node& node : graph.nodes())
    count += static_cast<int>(std::count(node.inputs.begin(), node.inputs.end(), id));
  return count;
}

const at::Tensor* own_vector(const Graph& graph, ValueId id, int64_t size) {
  if (id == graph::kNone || !graph.value(id).weight || uses_of(graph, id) != 1) return nullptr;
  const auto* tensor = std::get_if<at::Tensor>(&*graph.value(id).weight);
  const bool fits = tensor != nullptr && tensor->dim() == 1 && tensor->numel() == size &&
                    at::isFloatingType(tensor->scalar_type());
  return fits ? tensor : nullptr;
}

// A node behind the layer that adds `shift` itself.
void append_add(Graph& graph, NodeId at, const at::Tensor& shift) {
  std::vector<Node> nodes = graph.nodes();
  Node& layer = nodes[at];
  const ValueId old = layer.outputs[0];
  graph::Value made;
  made.name = graph.free_name(graph.value(old).name + "_uncorrected");
  layer.outputs[0] = graph.add_value(std::move(made));
  Node add;
  at::Tensor along = shift;
  if (is_convolution(layer)) {
    std::vector<int64_t> shape(graph.value(layer.inputs[1]).shape->size(), 1);
    shape[1] = shift.numel();
    along = shift.reshape(shape);
  }
  add.op = "Add";
  add.name = layer.name + "/Correction";
  add.block = layer.block;
  add.inputs = {layer.outputs[0],
                graph.add_weight(graph.free_name(graph.value(old).name + "_correction"), along)};
  add.outputs = {old};
  nodes.insert(nodes.begin() + at + 1, std::move(add));
  graph.replace_nodes(std::move(nodes));
  graph::infer_shapes(graph);
}

NodeId node_named(const Graph& graph, const std::string& name) {
  for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes().size()); ++id)
    if (graph.node(id).name == name) return id;
  fail(ErrorCode::kInternal, "[quantize] no node is named '{}'", name);
}

bool is_corrected(const NetworkLayer& layer) {
  return has_channels(layer) && layer.precision.weight_bits > 0;
}

exec::Values graph_inputs(const Graph& graph, const calib::Inputs& inputs) {
  exec::Values live;
  for (const ValueId id : graph.inputs) live[id] = inputs.at(graph.value(id).name);
  return live;
}

// The mean of each channel over all that was added.
class ChannelMean {
 public:
  void add(const Node& node, const at::Tensor& y) {
    const at::Tensor part = channel_sums(node, y);
    sum_ = sum_.defined() ? sum_ + part : part;
    count_ += y.numel() / part.numel();
  }
  bool empty() const { return count_ == 0; }
  at::Tensor mean() const { return sum_ / static_cast<double>(count_); }

 private:
  at::Tensor sum_;
  int64_t count_ = 0;
};

// Of what each layer of the float network makes, by layer.
std::vector<ChannelMean> float_means(const Graph& original, const std::vector<NetworkLayer>& layers,
                                     const std::vector<calib::Inputs>& inputs) {
  std::vector<ChannelMean> means(layers.size());
  exec::Executor executor(original);
  for (const calib::Inputs& batch : inputs) {
    exec::Values live = graph_inputs(original, batch);
    NodeId begin = 0;
    for (size_t i = 0; i < layers.size(); ++i) {
      if (!is_corrected(layers[i])) continue;
      const Node& node = original.node(layers[i].node);
      executor.run_nodes(begin, layers[i].node + 1, live);
      begin = layers[i].node + 1;
      means[i].add(node, live.at(node.outputs[0]));
    }
  }
  return means;
}

}  // namespace

std::unordered_map<std::string, at::Tensor> correct_biases(const Graph& original, Graph& quantized,
                                                           const std::vector<NetworkLayer>& layers,
                                                           const calib::Batches& batches,
                                                           int64_t samples, bool quiet) {
  constexpr uint64_t kMemory = uint64_t{1} << 30;  // of activations; more go to a temporary file
  std::vector<calib::Inputs> inputs;
  batches([&](const calib::Inputs& batch) {
    inputs.push_back(batch);
    samples -= calib::sample_count(batch);
    return samples > 0;
  });
  base::Progress progress("Correcting biases", layers.size() + 1);
  progress.set_quiet(quiet);
  const std::vector<ChannelMean> exact = float_means(original, layers, inputs);
  progress.advance();
  calib::ActivationStore store(inputs.size(), kMemory, std::filesystem::temp_directory_path());
  for (size_t i = 0; i < inputs.size(); ++i) store.put(i, graph_inputs(quantized, inputs[i]));
  std::unordered_map<std::string, at::Tensor> shifts;
  NodeId begin = 0;  // what is stored is alive before this node
  for (size_t i = 0; i < layers.size(); ++i, progress.advance()) {
    if (!is_corrected(layers[i]) || exact[i].empty()) continue;
    const NodeId id = node_named(quantized, layers[i].name);
    exec::Executor executor(quantized);
    ChannelMean rounded;
    for (size_t batch = 0; batch < inputs.size(); ++batch) {
      exec::Values live = store.take(batch);
      executor.run_nodes(begin, id, live);
      exec::Values after = live;  // the layer itself runs again, corrected
      executor.run_nodes(id, id + 1, after);
      rounded.add(quantized.node(id), after.at(quantized.node(id).outputs[0]));
      store.put(batch, std::move(live));
    }
    begin = id;
    shifts[layers[i].name] = (rounded.mean() - exact[i].mean()).to(at::kFloat);
    subtract_from_bias(quantized, layers[i].name, shifts[layers[i].name]);
  }
  return shifts;
}

void subtract_from_bias(Graph& graph, const std::string& layer, const at::Tensor& shift) {
  const auto& nodes = graph.nodes();
  const NodeId id = node_named(graph, layer);
  Node& node = graph.node(id);
  const at::Tensor minus = -shift;
  const bool takes_bias = is_convolution(node) || node.op == "Gemm";
  if (takes_bias && (node.inputs.size() < 3 || node.inputs[2] == graph::kNone)) {
    node.inputs.resize(3, graph::kNone);
    node.inputs[2] = graph.add_weight(graph.free_name(layer + "_bias"), minus.contiguous());
    node.attributes.erase("beta");
    return;
  }
  if (takes_bias && node.number("beta", 1) == 1) {
    if (const at::Tensor* bias = own_vector(graph, node.inputs[2], shift.numel()))
      return add_to(graph, node.inputs[2], minus, *bias);
  }
  if (node.op == "MatMul" && uses_of(graph, node.outputs[0]) == 1) {
    for (const Node& user : nodes) {
      if (user.op != "Add" || user.inputs[0] != node.outputs[0]) continue;
      if (const at::Tensor* bias = own_vector(graph, user.inputs[1], shift.numel()))
        return add_to(graph, user.inputs[1], minus, *bias);
    }
  }
  append_add(graph, id, minus.contiguous());
}

}  // namespace packlight::quantize

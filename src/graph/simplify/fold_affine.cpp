#include "graph/simplify/fold_affine.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graph/simplify/edit.h"
#include "graph/simplify/known.h"

namespace packlight::graph {
namespace {

struct Convolution {
  NodeId id = -1;
  at::Tensor weight;  // F64 [groups, output channels, input channels, positions], of one group
  at::Tensor bias;    // F64 [output channels], zeros when absent
  std::vector<int64_t> shape;
  bool transposed = false;
  int64_t outputs() const { return weight.size(0) * weight.size(1); }
  int64_t inputs() const { return weight.size(0) * weight.size(2); }
};

// Nothing when its weights may not be changed.
std::optional<Convolution> convolution(const Edit& edit, NodeId id) {
  const Node& node = edit.node(id);
  const bool transposed = node.op == "ConvTranspose";
  if (!node.domain.empty() || (!transposed && node.op != "Conv")) return std::nullopt;
  const at::Tensor* weight = dense_constant(edit.graph(), node.inputs[1]);
  const int64_t groups = node.integer("group", 1);
  if (weight == nullptr || !weight->is_floating_point() || weight->dim() < 3 || groups < 1 ||
      weight->size(0) % groups != 0 || weight->numel() == 0 || edit.uses(node.inputs[1]) != 1)
    return std::nullopt;
  Convolution result{id, {}, {}, weight->sizes().vec(), transposed};
  // Conv has [outputs, inputs / groups, ...], ConvTranspose [inputs, outputs / groups, ...].
  result.weight = weight->to(at::kDouble)
                      .reshape({groups, weight->size(0) / groups, weight->size(1),
                                weight->numel() / weight->size(0) / weight->size(1)});
  if (transposed) result.weight = result.weight.transpose(1, 2);
  result.bias = at::zeros({result.outputs()}, at::kDouble);
  if (node.inputs.size() > 2 && node.inputs[2] != kNone) {
    const at::Tensor* bias = dense_constant(edit.graph(), node.inputs[2]);
    if (bias == nullptr || bias->numel() != result.outputs()) return std::nullopt;
    result.bias = bias->to(at::kDouble).reshape({-1});
  }
  return result;
}

// Puts the changed weights back, rounded once.
void store(Edit& edit, const Convolution& conv) {
  const std::string name = edit.node(conv.id).name;
  const at::Tensor stored = conv.transposed ? conv.weight.transpose(1, 2) : conv.weight;
  edit.set_weight(conv.id, 1, stored.reshape(conv.shape).to(at::kFloat), name + ".weight");
  const bool has_bias =
      edit.node(conv.id).inputs.size() > 2 && edit.node(conv.id).inputs[2] != kNone;
  if (has_bias || at::count_nonzero(conv.bias).item<int64_t>() > 0)
    edit.set_weight(conv.id, 2, conv.bias.to(at::kFloat), name + ".bias");
}

bool fold_after(Edit& edit, NodeId id) {
  const Node& node = edit.node(id);
  for (size_t i = 0; i < std::min<size_t>(node.inputs.size(), 2); ++i) {
    const ValueId data = node.inputs[i];
    if (data == kNone || !edit.internal(data)) continue;
    auto conv = convolution(edit, edit.producer(data));
    if (!conv) continue;
    const auto rank = static_cast<int64_t>(conv->shape.size());
    const auto affine = channel_affine(edit.graph(), node, data, conv->outputs(), rank, 1);
    if (!affine) continue;
    conv->weight = conv->weight * affine->scale.reshape({conv->weight.size(0), -1, 1, 1});
    conv->bias = conv->bias * affine->scale + affine->shift;
    store(edit, *conv);
    edit.take_over(conv->id, id);
    return true;
  }
  return false;
}

bool unpadded(const Node& conv) {
  const std::string automatic = conv.text("auto_pad", "NOTSET");
  const std::vector<int64_t> pads = conv.integers("pads");
  return automatic == "VALID" ||
         (automatic == "NOTSET" &&
          std::all_of(pads.begin(), pads.end(), [](int64_t pad) { return pad == 0; }));
}

bool fold_before(Edit& edit, NodeId id) {
  const Node& node = edit.node(id);
  const auto user = edit.only_user(node.outputs.empty() ? kNone : node.outputs[0]);
  if (!user || node.inputs.size() < 2 || edit.node(*user).inputs[0] != node.outputs[0] ||
      edit.node(*user).input_quant != ActivationQuant::kNone)
    return false;
  auto conv = convolution(edit, *user);
  if (!conv || conv->transposed) return false;
  const auto rank = static_cast<int64_t>(conv->shape.size());
  for (size_t i = 0; i < 2; ++i) {
    const ValueId data = node.inputs[i];
    if (data == kNone || edit.graph().value(data).weight || !edit.shape(data)) continue;
    const Shape& shape = *edit.shape(data);
    if (static_cast<int64_t>(shape.size()) != rank || shape[1] != Dim(conv->inputs())) continue;
    const auto affine = channel_affine(edit.graph(), node, data, conv->inputs(), rank, 1);
    if (!affine) continue;
    const bool shifts = at::count_nonzero(affine->shift).item<int64_t>() > 0;
    if (shifts && !unpadded(edit.node(*user))) return false;
    const int64_t groups = conv->weight.size(0);
    const at::Tensor moved = conv->weight * affine->shift.reshape({groups, 1, -1, 1});
    conv->bias = conv->bias + moved.sum({2, 3}).reshape({-1});
    conv->weight = conv->weight * affine->scale.reshape({groups, 1, -1, 1});
    store(edit, *conv);
    edit.set_input(conv->id, 0, data);
    return true;
  }
  return false;
}

int fold_all(Graph& graph, bool batch_norm, bool (*fold)(Edit&, NodeId)) {
  Edit edit(graph);
  int folded = 0;
  for (NodeId id = 0; id < edit.size(); ++id) {
    if (edit.removed(id) || (!batch_norm && edit.node(id).op == "BatchNormalization")) continue;
    folded += fold(edit, id);
  }
  edit.finish();
  return folded;
}

}  // namespace

int fold_after_convolution(Graph& graph, bool batch_norm) {
  return fold_all(graph, batch_norm, fold_after);
}

int fold_before_convolution(Graph& graph, bool batch_norm) {
  return fold_all(graph, batch_norm, fold_before);
}

}  // namespace packlight::graph

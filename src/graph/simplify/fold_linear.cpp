#include <ATen/ATen.h>

#include "graph/simplify/edit.h"
#include "graph/simplify/fold_affine.h"
#include "graph/simplify/known.h"

namespace packlight::graph {
namespace {

// The linear node whose product a BatchNormalization reads, directly or through its bias Add.
struct Linear {
  NodeId id = -1, bias_add = -1;
  size_t bias_input = 0;  // of the Add
};

NodeId linear_maker(const Edit& edit, ValueId value) {
  const bool linear =
      edit.maker(value, "MatMul") != nullptr || edit.maker(value, "Gemm") != nullptr;
  return linear && edit.internal(value) ? edit.producer(value) : -1;
}

std::optional<Linear> linear_before(const Edit& edit, ValueId value) {
  if (!edit.internal(value)) return std::nullopt;
  Linear result;
  result.id = linear_maker(edit, value);
  if (result.id >= 0) return result;
  const Node* add = edit.maker(value, "Add");
  if (add == nullptr) return std::nullopt;
  result.bias_add = edit.producer(value);
  for (size_t i = 0; i < 2; ++i) {
    result.id = linear_maker(edit, add->inputs[i]);
    result.bias_input = 1 - i;
    if (result.id >= 0) return result;
  }
  return std::nullopt;
}

// A bias as F64 [channels]; zeros for kNone.
std::optional<at::Tensor> bias_of(const Edit& edit, ValueId id, int64_t channels) {
  if (id == kNone) return at::zeros({channels}, at::kDouble);
  const at::Tensor* bias = dense_constant(edit.graph(), id);
  const bool row =
      bias != nullptr && bias->is_floating_point() && bias->dim() <= 2 &&
      (bias->numel() == 1 || (bias->numel() == channels && bias->size(-1) == channels));
  if (!row) return std::nullopt;
  return bias->to(at::kDouble).reshape({-1}).expand({channels});
}

ValueId third(const Node& node) { return node.inputs.size() > 2 ? node.inputs[2] : kNone; }

// Scales the columns of the product; the weight keeps its name and orientation.
void scale_weight(Edit& edit, NodeId id, const at::Tensor& scale) {
  const auto found = linear_weight(edit.graph(), edit.node(id));
  const at::Tensor* weight = dense_constant(edit.graph(), found->value);
  const at::Tensor factor = found->transposed ? scale.unsqueeze(1) : scale.unsqueeze(0);
  hold(edit.graph(), found->value, (weight->to(at::kDouble) * factor).to(at::kFloat));
}

std::optional<int64_t> output_features(const Edit& edit, NodeId id) {
  const auto found = linear_weight(edit.graph(), edit.node(id));
  if (!found) return std::nullopt;
  const at::Tensor* weight = dense_constant(edit.graph(), found->value);
  if (weight == nullptr || !weight->is_floating_point() || edit.uses(found->value) != 1 ||
      edit.uses(edit.node(id).inputs[1]) != 1)
    return std::nullopt;
  return weight->size(found->transposed ? 0 : 1);
}

void set_gemm_bias(Edit& edit, NodeId id, const at::Tensor& bias) {
  edit.graph().node(id).attributes["beta"] = 1.0;
  edit.set_weight(id, 2, bias.to(at::kFloat), edit.node(id).name + ".bias");
}

bool fold(Edit& edit, NodeId id) {
  const Node norm = edit.node(id);
  const ValueId data = norm.inputs[0];
  const auto& shape = edit.shape(data);
  const auto linear = linear_before(edit, data);
  if (!linear || !shape || shape->size() != 2) return false;
  const auto channels = output_features(edit, linear->id);
  if (!channels) return false;
  const auto affine = channel_affine(edit.graph(), norm, data, *channels, 2, 1);
  const Node& product = edit.node(linear->id);
  const bool gemm = product.op == "Gemm";
  const auto inner = bias_of(edit, gemm ? third(product) : kNone, *channels);
  const auto outer = bias_of(
      edit, linear->bias_add >= 0 ? edit.node(linear->bias_add).inputs[linear->bias_input] : kNone,
      *channels);
  if (!affine || !inner || !outer) return false;
  const at::Tensor bias =
      (*inner * product.number("beta", 1) + *outer) * affine->scale + affine->shift;
  scale_weight(edit, linear->id, affine->scale);
  if (gemm) {
    set_gemm_bias(edit, linear->id, bias);
    edit.take_over(linear->id, id);
    return true;
  }
  // The Add of the bias takes the norm's place.
  Node add{.name = norm.name, .op = "Add", .outputs = {norm.outputs[0]}, .block = norm.block};
  const ValueId bias_id =
      edit.graph().add_weight(edit.graph().free_name(product.name + ".bias"), bias.to(at::kFloat));
  add.inputs = {product.outputs[0], bias_id};
  edit.put(id, std::move(add));
  return true;
}

}  // namespace

int fold_after_linear(Graph& graph) {
  Edit edit(graph);
  int folded = 0;
  for (NodeId id = 0; id < edit.size(); ++id) {
    const Node& node = edit.node(id);
    if (!edit.removed(id) && node.domain.empty() && node.op == "BatchNormalization")
      folded += fold(edit, id);
  }
  edit.finish();
  return folded;
}

}  // namespace packlight::graph

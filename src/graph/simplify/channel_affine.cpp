#include <ATen/ATen.h>

#include "graph/simplify/fold_affine.h"
#include "graph/simplify/known.h"

namespace packlight::graph {
namespace {

// A float constant as F64 [channels]; nothing when it varies along another axis, or would add one.
std::optional<at::Tensor> per_channel(const Graph& graph, ValueId id, int64_t channels,
                                      int64_t rank, int64_t axis) {
  const at::Tensor* tensor = dense_constant(graph, id);
  if (tensor == nullptr || !tensor->is_floating_point() || tensor->dim() > rank)
    return std::nullopt;
  for (int64_t i = 0; i < tensor->dim(); ++i) {
    const int64_t size = tensor->size(i), at = rank - tensor->dim() + i;
    if (size != 1 && (at != axis || size != channels)) return std::nullopt;
  }
  return tensor->to(at::kDouble).reshape({-1}).expand({channels});
}

std::optional<ChannelAffine> batch_norm(const Graph& graph, const Node& node, int64_t channels,
                                        int64_t axis) {
  if (axis != 1 || node.integer("training_mode", 0) != 0 || node.outputs.size() > 1 ||
      node.inputs.size() < 5)
    return std::nullopt;
  at::Tensor given[4];
  for (size_t i = 0; i < 4; ++i) {
    const at::Tensor* tensor = dense_constant(graph, node.inputs[i + 1]);
    if (tensor == nullptr || tensor->numel() != channels) return std::nullopt;
    given[i] = tensor->to(at::kDouble).reshape({channels});
  }
  const auto& [gamma, beta, mean, variance] = given;
  const at::Tensor scale = gamma / at::sqrt(variance + node.number("epsilon", 1e-5));
  return ChannelAffine{scale, beta - mean * scale};
}

}  // namespace

std::optional<ChannelAffine> channel_affine(const Graph& graph, const Node& node, ValueId data,
                                            int64_t channels, int64_t rank, int64_t axis) {
  if (!node.domain.empty() || node.inputs.size() < 2) return std::nullopt;
  std::optional<ChannelAffine> result;
  const bool first = node.inputs[0] == data;
  if (node.op == "BatchNormalization") {
    if (first) result = batch_norm(graph, node, channels, axis);
  } else if (node.op == "Mul" || node.op == "Div" || node.op == "Add" || node.op == "Sub") {
    const auto constant = per_channel(graph, node.inputs[first ? 1 : 0], channels, rank, axis);
    if (!constant || (node.op == "Div" && !first)) return std::nullopt;
    const at::Tensor one = at::ones({channels}, at::kDouble), zero = at::zeros_like(one);
    if (node.op == "Mul") result = {*constant, zero};
    if (node.op == "Div") result = {1 / *constant, zero};
    if (node.op == "Add") result = {one, *constant};
    if (node.op == "Sub") result = {first ? one : -one, first ? -*constant : *constant};
  }
  const auto finite = [](const at::Tensor& t) { return at::isfinite(t).all().item<bool>(); };
  if (!result || !finite(result->scale) || !finite(result->shift)) return std::nullopt;
  return result;
}

}  // namespace packlight::graph

#include <ATen/ATen.h>

#include <numeric>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

void check_vector(const at::Tensor& tensor, const char* name, int64_t size) {
  if (tensor.dim() != 1 || tensor.size(0) != size)
    fail(ErrorCode::kInvalidArgument, "{} is no vector of {} elements", name, size);
}

// [batch, channels, ...]
int64_t channels_of(const at::Tensor& x, int64_t min_rank) {
  if (x.dim() < min_rank)
    fail(ErrorCode::kInvalidArgument, "input of rank {}: at least {} is needed", x.dim(), min_rank);
  return x.size(1);
}

// Outputs 1 and 2 are the running statistics: mixed with the batch's in training, else as they
// were.
Outputs batch_normalization(const Call& call) {
  const double epsilon = call.node.number("epsilon", 1e-5),
               momentum = call.node.number("momentum", 0.9);
  // A vector is a batch of one channel.
  const at::Tensor x = call.inputs[0].dim() == 1 ? call.inputs[0].unsqueeze(1) : call.inputs[0];
  const int64_t channels = channels_of(x, 2);
  constexpr const char* kNames[] = {"scale", "bias", "mean", "variance"};
  for (size_t i = 0; i < 4; ++i) check_vector(call.inputs[i + 1], kNames[i], channels);
  const at::Tensor &scale = call.inputs[1], &bias = call.inputs[2], &mean = call.inputs[3],
                   &variance = call.inputs[4];
  const bool training = (call.options.training && !call.options.freeze_bn) ||
                        call.node.integer("training_mode", 0) != 0;
  if (!training) {
    const at::Tensor y =
        at::batch_norm(x, scale, bias, mean, variance, false, 0, epsilon, /*cudnn_enabled=*/false);
    return {y.view_as(call.inputs[0]), mean, variance};
  }
  if (x.numel() == 0)
    fail(ErrorCode::kInvalidArgument, "statistics of an empty batch are not defined");
  const at::Tensor y =
      at::batch_norm(x, scale, bias, {}, {}, true, 0, epsilon, /*cudnn_enabled=*/false);
  Outputs outputs{y.view_as(call.inputs[0])};
  if (call.node.outputs.size() > 1) {
    const auto [batch_variance, batch_mean] =
        at::var_mean(x.detach().transpose(0, 1).flatten(1), at::IntArrayRef{1}, /*unbiased=*/false);
    outputs.push_back(mean.detach() * momentum + batch_mean * (1 - momentum));
    outputs.push_back(variance.detach() * momentum + batch_variance * (1 - momentum));
  }
  return outputs;
}

Outputs instance_normalization(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t channels = channels_of(x, 3);
  check_vector(call.inputs[1], "scale", channels);
  check_vector(call.inputs[2], "bias", channels);
  return {at::instance_norm(x, call.inputs[1], call.inputs[2], {}, {}, /*use_input_stats=*/true, 0,
                            call.node.number("epsilon", 1e-5), /*cudnn_enabled=*/false)};
}

Outputs group_normalization(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t channels = channels_of(x, 2), groups = call.node.integer("num_groups", 0);
  if (groups < 1 || channels % groups != 0) {
    fail(ErrorCode::kInvalidArgument, "num_groups {} does not divide {} channels", groups,
         channels);
  }
  at::Tensor scale = call.inputs[1], bias = call.inputs[2];
  if (call.node.integer("scale_by_group", 0) != 0) {
    check_vector(scale, "scale", groups);
    check_vector(bias, "bias", groups);
    scale = scale.repeat_interleave(channels / groups);
    bias = bias.repeat_interleave(channels / groups);
  }
  check_vector(scale, "scale", channels);
  check_vector(bias, "bias", channels);
  return {at::group_norm(x, groups, scale, bias, call.node.number("epsilon", 1e-5),
                         /*cudnn_enabled=*/false)};
}

Outputs layer_normalization(const Call& call) {
  const at::Tensor &x = call.inputs[0], &scale = call.inputs[1];
  const at::Tensor bias = call.has(2) ? call.inputs[2] : at::Tensor();
  const int64_t axis = normalised_axis(call.node.integer("axis", -1), x.dim());
  const at::IntArrayRef shape = x.sizes().slice(axis);
  // LibTorch scales inside when the factors have the normalised shape; here they may broadcast.
  const bool inside = scale.sizes() == shape && (!bias.defined() || bias.sizes() == shape);
  const double epsilon = call.node.number("epsilon", 1e-5);
  at::Tensor y = at::layer_norm(x, shape, inside ? scale : at::Tensor(),
                                inside ? bias : at::Tensor(), epsilon);
  if (!inside) {
    y = y * scale;
    if (bias.defined()) y = y + bias;
  }
  if (y.sizes() != x.sizes())
    fail(ErrorCode::kInvalidArgument, "scale or bias does not broadcast to the input");
  if (call.node.outputs.size() == 1) return {y};
  // LibTorch's own statistics have no gradient.
  std::vector<int64_t> axes(shape.size());
  std::iota(axes.begin(), axes.end(), axis);
  const at::Tensor mean = at::mean(x, axes, /*keepdim=*/true), apart = x - mean;
  return {y, mean, at::rsqrt(at::mean(apart * apart, axes, /*keepdim=*/true) + epsilon)};
}

// Zero where the norm is.
Outputs lp_normalization(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t p = call.node.integer("p", 2),
                axis = normalised_axis(call.node.integer("axis", -1), x.dim());
  if (p != 1 && p != 2) fail(ErrorCode::kInvalidArgument, "p is {}, neither 1 nor 2", p);
  const at::Tensor norm = at::norm(x, p, at::IntArrayRef{axis}, /*keepdim=*/true);
  return {x / norm.masked_fill(norm == 0, 1)};
}

// y = x / (bias + alpha / size * sum of squares of `size` neighbouring channels) ^ beta
Outputs local_response_normalization(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const int64_t size = call.node.integer("size", 0);
  channels_of(x, 2);
  if (size < 1 || size > operators::kMaxWindowNumber)
    fail(ErrorCode::kInvalidArgument, "size is {}", size);
  std::vector<int64_t> pads(2 * (x.dim() - 1), 0);  // of all axes from the last to the channels
  pads[pads.size() - 2] = (size - 1) / 2;
  pads[pads.size() - 1] = size / 2;
  const at::Tensor sums = at::constant_pad_nd(x * x, pads).unfold(1, size, 1).sum(-1);
  const double alpha = call.node.number("alpha", 1e-4), beta = call.node.number("beta", 0.75),
               bias = call.node.number("bias", 1);
  return {x / at::pow(sums * (alpha / static_cast<double>(size)) + bias, beta)};
}

// (x - mean) / deviation, where ONNX adds its constant to the deviation.
Outputs mean_variance_normalization(const Call& call) {
  constexpr double kEpsilon = 1e-9;  // the specification's
  const at::Tensor& x = call.inputs[0];
  std::vector<int64_t> axes = call.node.integers("axes");
  if (axes.empty()) axes = {0, 2, 3};
  for (int64_t& axis : axes) axis = normalised_axis(axis, x.dim());
  const at::Tensor centred = x - at::mean(x, axes, /*keepdim=*/true);
  const at::Tensor variance = at::mean(centred * centred, axes, /*keepdim=*/true);
  const at::Tensor none = variance == 0;  // a root has no gradient there
  const at::Tensor deviation = at::sqrt(variance.masked_fill(none, 1)).masked_fill(none, 0);
  return {centred / (deviation + kEpsilon)};
}

constexpr OperatorEntry kOperators[] = {
    {"BatchNormalization", batch_normalization},
    {"InstanceNormalization", instance_normalization},
    {"GroupNormalization", group_normalization},
    {"LayerNormalization", layer_normalization},
    {"LpNormalization", lp_normalization},
    {"LRN", local_response_normalization},
    {"MeanVarianceNormalization", mean_variance_normalization},
};

}  // namespace

std::span<const OperatorEntry> normalization_operators() { return kOperators; }

}  // namespace packlight::exec

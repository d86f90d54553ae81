#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

// The common form (last axis, vector of weights, no gradients) in one pass over memory.
at::Tensor rms_norm_rows(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const int64_t n = x.size(-1), rows = n == 0 ? 0 : x.numel() / n;
  const at::Tensor in = x.contiguous(), scale = weight.contiguous();
  at::Tensor out = at::empty_like(in);
  const float *src = in.data_ptr<float>(), *w = scale.data_ptr<float>();
  float* dst = out.data_ptr<float>();
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* a = src + row * n;
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * a[i];
      const auto factor = static_cast<float>(1 / std::sqrt(sum / static_cast<double>(n) + epsilon));
      for (int64_t i = 0; i < n; ++i) dst[row * n + i] = a[i] * factor * w[i];
    }
  });
  return out;
}

Outputs rms_norm(const Call& call) {
  const at::Tensor &x = call.inputs[0], &weight = call.inputs[1];
  const double epsilon = call.node.number("epsilon", 1e-5);
  const int64_t axis = normalised_axis(call.node.integer("axis", -1), x.dim());
  const bool plain = axis == x.dim() - 1 && weight.dim() == 1 && weight.size(0) == x.size(-1) &&
                     x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat;
  if (plain && !c10::GradMode::is_enabled()) return {rms_norm_rows(x, weight, epsilon)};
  std::vector<int64_t> axes;
  for (int64_t i = axis; i < x.dim(); ++i) axes.push_back(i);
  const at::Tensor mean = at::mean(x * x, axes, /*keepdim=*/true);
  return {x * at::rsqrt(mean + epsilon) * weight};
}

// Rotates x [batch, sequence, heads, size] by the angles of cosine, sine [batch, sequence, 1,
// rotated / 2].
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine,
                  bool interleaved) {
  const int64_t half = cosine.size(-1), size = x.size(-1);
  if (2 * half > size) {
    fail(ErrorCode::kInvalidArgument, "caches rotate {} of {} dimensions", 2 * half, size);
  }
  const at::Tensor turned = x.narrow(-1, 0, 2 * half);
  const at::Tensor a = interleaved ? turned.slice(-1, 0, 2 * half, 2) : turned.narrow(-1, 0, half);
  const at::Tensor b =
      interleaved ? turned.slice(-1, 1, 2 * half, 2) : turned.narrow(-1, half, half);
  const at::Tensor first = a * cosine - b * sine, second = a * sine + b * cosine;
  at::Tensor out =
      interleaved ? at::stack({first, second}, -1).flatten(-2) : at::cat({first, second}, -1);
  if (2 * half < size) out = at::cat({out, x.narrow(-1, 2 * half, size - 2 * half)}, -1);
  return out;
}

Outputs rotary(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  at::Tensor cosine = call.inputs[1], sine = call.inputs[2];
  if (call.has(3)) {  // caches by position
    cosine = at::embedding(cosine, call.inputs[3]);
    sine = at::embedding(sine, call.inputs[3]);
  }
  const bool interleaved = call.node.integer("interleaved", 0) != 0;
  cosine = cosine.unsqueeze(2);
  sine = sine.unsqueeze(2);
  if (x.dim() == 4) {
    return {rotate(x.transpose(1, 2), cosine, sine, interleaved).transpose(1, 2)};
  }
  const int64_t heads = call.node.integer("num_heads", 0);
  if (heads <= 0 || x.size(2) % heads != 0) {
    fail(ErrorCode::kInvalidArgument, "num_heads {} does not divide {}", heads, x.size(2));
  }
  const at::Tensor split = x.view({x.size(0), x.size(1), heads, x.size(2) / heads});
  return {rotate(split, cosine, sine, interleaved).view(x.sizes())};
}

// [batch, sequence, heads * size] -> [batch, heads, sequence, size] as a view.
at::Tensor split_heads(const at::Tensor& x, int64_t heads) {
  if (x.dim() == 4) return x;
  if (heads <= 0 || x.size(2) % heads != 0) {
    fail(ErrorCode::kInvalidArgument, "{} heads do not divide {}", heads, x.size(2));
  }
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

Outputs attention_operator(const Call& call) {
  if (call.has(3) || call.has(4) || call.has(5) || call.node.outputs.size() > 1 ||
      call.node.number("softcap", 0) != 0) {
    fail(ErrorCode::kUnsupported, "attention with a mask, past keys, softcap or further outputs");
  }
  const at::Tensor q = split_heads(call.inputs[0], call.node.integer("q_num_heads", 0));
  const at::Tensor k = split_heads(call.inputs[1], call.node.integer("kv_num_heads", 0));
  const at::Tensor v = split_heads(call.inputs[2], call.node.integer("kv_num_heads", 0));
  AttentionSpec spec;
  spec.causal = call.node.integer("is_causal", 0) != 0;
  spec.window = call.node.integer("local_window_size", 0);
  spec.scale = call.node.number("scale", 1 / std::sqrt(static_cast<double>(q.size(3))));
  spec.query_chunk = call.options.attention_query_chunk;
  const at::Tensor out = attention(q, k, v, spec);
  if (call.inputs[0].dim() == 4) return {out};
  return {out.transpose(1, 2).reshape({q.size(0), q.size(2), q.size(1) * v.size(3)})};
}

constexpr OperatorEntry kOperators[] = {
    {"RMSNormalization", rms_norm},
    {"RotaryEmbedding", rotary},
    {"Attention", attention_operator},
};

}  // namespace

std::span<const OperatorEntry> transformer_operators() { return kOperators; }

}  // namespace packlight::exec

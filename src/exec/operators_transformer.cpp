#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {

std::vector<at::Tensor> attention_operator(const Call& call);  // operators_attention.cpp

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
  if (x.dim() != 3 && x.dim() != 4)
    fail(ErrorCode::kInvalidArgument, "an input of rank {}, not 3 or 4", x.dim());
  const int64_t cache_rank = call.has(3) ? 2 : 3;
  if (cosine.dim() != cache_rank || sine.sizes() != cosine.sizes())
    fail(ErrorCode::kInvalidArgument, "caches must have one shape, of rank {}", cache_rank);
  if (call.has(3)) {  // caches by position
    cosine = at::embedding(cosine, call.inputs[3]);
    sine = at::embedding(sine, call.inputs[3]);
  }
  const bool interleaved = call.node.integer("interleaved", 0) != 0;
  if (const int64_t rotated = call.node.integer("rotary_embedding_dim", 0);
      rotated != 0 && rotated != 2 * cosine.size(-1)) {
    fail(ErrorCode::kInvalidArgument, "rotary_embedding_dim {}, but caches for {}", rotated,
         2 * cosine.size(-1));
  }
  cosine = cosine.unsqueeze(2);
  sine = sine.unsqueeze(2);
  if (x.dim() == 4) {
    return {rotate(x.transpose(1, 2), cosine, sine, interleaved).transpose(1, 2)};
  }
  const int64_t heads = call.node.integer("num_heads", 0);
  if (heads <= 0 || x.size(2) % heads != 0) {
    fail(ErrorCode::kInvalidArgument, "num_heads {} does not divide {}", heads, x.size(2));
  }
  const at::Tensor split = x.reshape({x.size(0), x.size(1), heads, x.size(2) / heads});
  return {rotate(split, cosine, sine, interleaved).reshape(x.sizes())};
}

constexpr OperatorEntry kOperators[] = {
    {"RMSNormalization", rms_norm},
    {"RotaryEmbedding", rotary},
    {"Attention", attention_operator},
};

}  // namespace

std::span<const OperatorEntry> transformer_operators() { return kOperators; }

}  // namespace packlight::exec

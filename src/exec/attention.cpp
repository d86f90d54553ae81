#include <fmt/format.h>
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <utility>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

// Queries [first, end) of one sample and the keys [key_first, key_end) that any of them sees.
struct Chunk {
  int64_t first, end, key_first, key_end;
  int64_t keys() const { return key_end - key_first; }
};

std::vector<Chunk> make_chunks(int64_t queries, int64_t keys, const AttentionSpec& spec) {
  const int64_t step = std::max<int64_t>(1, spec.query_chunk);
  std::vector<Chunk> chunks;
  for (int64_t first = 0; first < queries; first += step) {
    const int64_t end = std::min(first + step, queries);
    const int64_t key_first = spec.window > 0 ? std::max<int64_t>(0, first - spec.window + 1) : 0;
    chunks.push_back({first, end, key_first, spec.causal ? std::min(end, keys) : keys});
  }
  return chunks;
}

// Writes -infinity where a query may not look. scores: [.., queries of the chunk, keys of the
// chunk].
void mask_scores(at::Tensor& scores, const Chunk& chunk, const AttentionSpec& spec) {
  const double hidden = -std::numeric_limits<double>::infinity();
  const auto row = at::arange(chunk.first, chunk.end, at::kLong).unsqueeze(1);
  if (spec.causal &&
      chunk.key_end > chunk.first) {  // only keys from the chunk's first query on can lie ahead
    const int64_t begin = std::max(chunk.first, chunk.key_first);
    const auto column = at::arange(begin, chunk.key_end, at::kLong);
    scores.narrow(-1, begin - chunk.key_first, chunk.key_end - begin)
        .masked_fill_(column > row, hidden);
  }
  const int64_t left = chunk.end - spec.window;  // keys below it are out of the last query's window
  if (spec.window > 0 && left > chunk.key_first) {
    const auto column = at::arange(chunk.key_first, left, at::kLong);
    scores.narrow(-1, 0, left - chunk.key_first).masked_fill_(column <= row - spec.window, hidden);
  }
}

// One sample's rows [first, end) of x [heads, n, size] as [kv_heads, group * (end - first), size],
// contiguous.
at::Tensor grouped_rows(const at::Tensor& x, int64_t kv_heads, const Chunk& chunk) {
  const int64_t rows = x.size(0) / kv_heads * (chunk.end - chunk.first);
  return x.narrow(1, chunk.first, chunk.end - chunk.first).reshape({kv_heads, rows, x.size(2)});
}

// Softmax of the chunk's scaled scores: [kv_heads, group * queries, keys].
at::Tensor probabilities(const at::Tensor& query_rows, const at::Tensor& keys, const Chunk& chunk,
                         const AttentionSpec& spec) {
  at::Tensor scores = at::bmm(query_rows, keys.transpose(1, 2)).mul_(spec.scale);
  if (spec.causal || spec.window > 0) {
    const int64_t queries = chunk.end - chunk.first;
    at::Tensor by_head = scores.view({scores.size(0), -1, queries, scores.size(2)});
    mask_scores(by_head, chunk, spec);
  }
  return at::softmax(scores, -1);
}

at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                   const AttentionSpec& spec) {
  const int64_t kv_heads = k.size(1);
  at::Tensor out = at::empty({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options());
  for (int64_t b = 0; b < q.size(0); ++b) {
    for (const Chunk& chunk : make_chunks(q.size(2), k.size(2), spec)) {
      const at::Tensor keys = k[b].narrow(1, chunk.key_first, chunk.keys());
      const at::Tensor values = v[b].narrow(1, chunk.key_first, chunk.keys());
      const at::Tensor weights =
          probabilities(grouped_rows(q[b], kv_heads, chunk), keys, chunk, spec);
      out[b]
          .narrow(1, chunk.first, chunk.end - chunk.first)
          .copy_(at::bmm(weights, values).view({q.size(1), chunk.end - chunk.first, v.size(3)}));
    }
  }
  return out;
}

// Adds one chunk's gradients to those of its sample. With P = softmax(S), S = scale Q K^T, O = P V:
// dV = P^T dO, dP = dO V^T, dS = P * (dP - rowsum(P * dP)), dQ = scale dS K, dK = scale dS^T Q.
void backward_chunk(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const at::Tensor& grad_out, const Chunk& chunk, const AttentionSpec& spec,
                    at::Tensor dq, at::Tensor dk, at::Tensor dv) {
  const int64_t kv_heads = k.size(0);
  const at::Tensor rows = grouped_rows(q, kv_heads, chunk),
                   grad = grouped_rows(grad_out, kv_heads, chunk);
  const at::Tensor keys = k.narrow(1, chunk.key_first, chunk.keys());
  const at::Tensor values = v.narrow(1, chunk.key_first, chunk.keys());
  const at::Tensor p = probabilities(rows, keys, chunk, spec);
  dv.narrow(1, chunk.key_first, chunk.keys()).add_(at::bmm(p.transpose(1, 2), grad));
  at::Tensor ds = at::bmm(grad, values.transpose(1, 2));
  ds.sub_((p * ds).sum(-1, /*keepdim=*/true)).mul_(p).mul_(spec.scale);
  dk.narrow(1, chunk.key_first, chunk.keys()).add_(at::bmm(ds.transpose(1, 2), rows));
  dq.narrow(1, chunk.first, chunk.end - chunk.first)
      .copy_(at::bmm(ds, keys).view({q.size(0), chunk.end - chunk.first, q.size(2)}));
}

// Keeps no scores between forward and backward: memory stays linear in the length.
struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v, const AttentionSpec& spec) {
    context->save_for_backward({q, k, v});
    context->saved_data["causal"] = spec.causal;
    context->saved_data["window"] = spec.window;
    context->saved_data["scale"] = spec.scale;
    context->saved_data["query_chunk"] = spec.query_chunk;
    return exec::forward(q, k, v, spec);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    AttentionSpec spec;
    spec.causal = context->saved_data["causal"].toBool();
    spec.window = context->saved_data["window"].toInt();
    spec.scale = context->saved_data["scale"].toDouble();
    spec.query_chunk = context->saved_data["query_chunk"].toInt();
    at::Tensor dq = at::empty(q.sizes(), q.options());
    at::Tensor dk = at::zeros(k.sizes(), k.options()), dv = at::zeros(v.sizes(), v.options());
    for (int64_t b = 0; b < q.size(0); ++b) {
      for (const Chunk& chunk : make_chunks(q.size(2), k.size(2), spec)) {
        backward_chunk(q[b], k[b], v[b], grads[0][b], chunk, spec, dq[b], dk[b], dv[b]);
      }
    }
    return {dq, dk, dv, at::Tensor()};
  }
};

void check_shapes(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const AttentionSpec& spec) {
  const bool fits = q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && k.size(1) > 0 &&
                    q.size(1) % k.size(1) == 0 && q.size(0) == k.size(0) &&
                    k.size(0) == v.size(0) && k.size(1) == v.size(1) && k.size(2) == v.size(2) &&
                    q.size(3) == k.size(3);
  if (!fits) {
    fail(ErrorCode::kInvalidArgument, "query {}, key {} and value {} do not fit each other",
         fmt::join(q.sizes().begin(), q.sizes().end(), "x"),
         fmt::join(k.sizes().begin(), k.sizes().end(), "x"),
         fmt::join(v.sizes().begin(), v.sizes().end(), "x"));
  }
  if ((spec.causal || spec.window > 0) && q.size(2) != k.size(2)) {
    fail(ErrorCode::kUnsupported, "causal attention of {} queries over {} keys", q.size(2),
         k.size(2));
  }
}

}  // namespace

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionSpec& spec) {
  check_shapes(q, k, v, spec);
  const bool wants_gradients =
      c10::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  return wants_gradients ? AttentionFunction::apply(q, k, v, spec) : forward(q, k, v, spec);
}

}  // namespace packlight::exec

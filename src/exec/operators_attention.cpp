#include <fmt/format.h>
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;
enum Input : size_t { kQ, kK, kV, kMask, kPastKey, kPastValue };
constexpr double kHidden = -std::numeric_limits<double>::infinity();
constexpr int64_t kDouble = 11;  // TensorProto.DataType

// [batch, sequence, heads * size] -> [batch, heads, sequence, size] as a view.
at::Tensor split_heads(const at::Tensor& x, int64_t heads) {
  if (x.dim() == 4) return x;
  if (x.dim() != 3 || heads <= 0 || x.size(2) % heads != 0) {
    fail(ErrorCode::kInvalidArgument, "{} heads do not divide {}", heads,
         fmt::join(x.sizes().begin(), x.sizes().end(), "x"));
  }
  return x.reshape({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

// What the scores go through, in this order: scale, softcap, mask, softmax.
struct ScoreSpec {
  double scale = 1, softcap = 0;
  bool causal = false;
  int64_t window = 0;  // > 0: a query sees the last `window` keys up to itself
  int64_t past = 0;    // query i stands where key i + past does
  at::Tensor mask;     // rank 4, [.., .., queries or 1, keys or 1], or undefined
  bool softmax_in_double = false;
};

// What is added to the scores of queries [first, first + rows): F32, broadcasts to [batch, heads,
// rows, keys]; undefined when every query sees all.
at::Tensor score_bias(const ScoreSpec& spec, int64_t first, int64_t rows, int64_t keys) {
  at::Tensor bias;
  if (spec.mask.defined()) {
    bias = spec.mask.size(2) == 1 ? spec.mask : spec.mask.narrow(2, first, rows);
    if (bias.scalar_type() == at::kBool)
      bias = at::zeros(bias.sizes(), at::kFloat).masked_fill(bias.logical_not(), kHidden);
  }
  if (!spec.causal && spec.window == 0) return bias;
  const at::Tensor key = at::arange(keys, at::kLong);
  const at::Tensor query = at::arange(first + spec.past, first + spec.past + rows, at::kLong)
                               .unsqueeze(1);  // its place among the keys
  at::Tensor hidden = at::zeros({rows, keys}, at::kBool);
  if (spec.causal) hidden = hidden.logical_or(key > query);
  if (spec.window > 0) hidden = hidden.logical_or(key <= query - spec.window);
  const at::Tensor shown = bias.defined() ? bias : at::zeros({1, 1, 1, 1}, at::kFloat);
  return shown.masked_fill(hidden, kHidden);
}

// Scores [batch, heads, rows, keys] -> probabilities. A query that sees no key gets zeros: its bias
// is left out of the softmax, so that neither it nor its gradient meets infinity minus infinity.
at::Tensor probabilities(const at::Tensor& scores, const at::Tensor& bias, const ScoreSpec& spec) {
  const auto softmax = [&](const at::Tensor& x) {
    // F16 and BF16 ask for less than F32 gives; only F64 asks for more.
    return spec.softmax_in_double ? at::softmax(x.to(at::kDouble), -1).to(at::kFloat)
                                  : at::softmax(x, -1);
  };
  if (!bias.defined()) return softmax(scores);
  const at::Tensor blind = at::amax(bias.detach(), -1, /*keepdim=*/true) == kHidden;
  if (!blind.any().item<bool>()) return softmax(scores + bias);
  return softmax(scores + bias.masked_fill(blind, 0)).masked_fill(blind, 0);
}

struct Chunk {
  at::Tensor out;     // [batch, heads, rows, value size]
  at::Tensor scores;  // as qk_matmul_output_mode asks; undefined when not wanted
};

// Queries [first, first + rows) of q [batch, heads, n, size], which share the key heads in groups.
Chunk attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const ScoreSpec& spec,
             int64_t first, int64_t rows, std::optional<int64_t> mode) {
  const int64_t batch = q.size(0), heads = q.size(1), kv_heads = k.size(1), keys = k.size(2);
  const int64_t group_rows = heads / kv_heads * rows;
  const at::Tensor queries =
      q.narrow(2, first, rows).reshape({batch * kv_heads, group_rows, q.size(3)});
  const at::Tensor key_rows = k.reshape({batch * kv_heads, keys, k.size(3)});
  const at::Tensor values = v.reshape({batch * kv_heads, keys, v.size(3)});
  const at::Tensor product =
      (at::bmm(queries, key_rows.transpose(1, 2)) * spec.scale).view({batch, heads, rows, keys});
  const at::Tensor scores =
      spec.softcap > 0 ? at::tanh(product / spec.softcap) * spec.softcap : product;
  const at::Tensor bias = score_bias(spec, first, rows, keys);
  const at::Tensor weights = probabilities(scores, bias, spec);
  Chunk chunk;
  chunk.out = at::bmm(weights.reshape({batch * kv_heads, group_rows, keys}), values)
                  .view({batch, heads, rows, v.size(3)});
  if (mode == 0) chunk.scores = product;
  if (mode == 1) chunk.scores = scores;
  if (mode == 2) chunk.scores = bias.defined() ? scores + bias : scores;
  if (mode == 3) chunk.scores = weights;
  return chunk;
}

// Everything that exec::attention() does not do. Takes queries in chunks too, so without autograd
// no score matrix of all queries exists unless it is asked for.
Chunk general_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const ScoreSpec& spec, int64_t chunk_rows, std::optional<int64_t> mode) {
  if (q.numel() == 0 || k.numel() == 0) {  // no key to see, or nobody to see it
    Chunk none{at::zeros({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options()), {}};
    if (mode) none.scores = at::zeros({q.size(0), q.size(1), q.size(2), k.size(2)}, q.options());
    return none;
  }
  std::vector<at::Tensor> out, scores;
  const int64_t step = std::max<int64_t>(1, chunk_rows);
  for (int64_t first = 0; first < q.size(2); first += step) {
    Chunk chunk = attend(q, k, v, spec, first, std::min(step, q.size(2) - first), mode);
    out.push_back(std::move(chunk.out));
    if (mode) scores.push_back(std::move(chunk.scores));
  }
  return {at::cat(out, 2), mode ? at::cat(scores, 2) : at::Tensor()};
}

// As rank 4 with `keys` columns or one: keys beyond a shorter mask are hidden.
at::Tensor wide_mask(const at::Tensor& mask, const at::Tensor& q, int64_t keys) {
  if (mask.dim() < 1 || mask.dim() > 4)
    fail(ErrorCode::kInvalidArgument, "a mask of rank {}, not 1 to 4", mask.dim());
  at::Tensor wide = mask;
  while (wide.dim() < 4) wide = wide.unsqueeze(0);
  const int64_t missing = wide.size(3) == 1 ? 0 : keys - wide.size(3);
  if (missing > 0) {
    const bool is_bool = wide.scalar_type() == at::kBool;
    std::vector<int64_t> shape = wide.sizes().vec();
    shape[3] = missing;
    wide = at::cat({wide, at::full(shape, is_bool ? 0 : kHidden, wide.options())}, 3);
  }
  const int64_t wanted[] = {q.size(0), q.size(1), q.size(2), keys};
  for (int i = 0; i < 4; ++i) {
    if (wide.size(i) != 1 && wide.size(i) != wanted[i]) {
      fail(ErrorCode::kInvalidArgument, "mask {} does not broadcast to {}",
           fmt::join(mask.sizes().begin(), mask.sizes().end(), "x"), fmt::join(wanted, "x"));
    }
  }
  return wide;
}

void check_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const bool fits = k.size(1) > 0 && q.size(1) % k.size(1) == 0 && q.size(0) == k.size(0) &&
                    k.size(0) == v.size(0) && k.size(1) == v.size(1) && k.size(2) == v.size(2) &&
                    q.size(3) == k.size(3);
  if (fits) return;
  fail(ErrorCode::kInvalidArgument, "query {}, key {} and value {} do not fit each other",
       fmt::join(q.sizes().begin(), q.sizes().end(), "x"),
       fmt::join(k.sizes().begin(), k.sizes().end(), "x"),
       fmt::join(v.sizes().begin(), v.sizes().end(), "x"));
}

// The output that exists, or nothing when it is not wanted.
std::optional<int64_t> wanted_mode(const graph::Node& node) {
  if (node.outputs.size() <= 3 || node.outputs[3] == graph::kNone) return std::nullopt;
  const int64_t mode = node.integer("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3)
    fail(ErrorCode::kInvalidArgument, "qk_matmul_output_mode {} is outside 0 to 3", mode);
  return mode;
}

}  // namespace

std::vector<at::Tensor> attention_operator(const Call& call) {
  const graph::Node& node = call.node;
  const at::Tensor q = split_heads(call.inputs[kQ], node.integer("q_num_heads", 0));
  at::Tensor k = split_heads(call.inputs[kK], node.integer("kv_num_heads", 0));
  at::Tensor v = split_heads(call.inputs[kV], node.integer("kv_num_heads", 0));
  if (call.has(kPastKey) != call.has(kPastValue))
    fail(ErrorCode::kInvalidArgument, "past_key and past_value must be given together");
  ScoreSpec spec;
  if (call.has(kPastKey)) {
    spec.past = call.inputs[kPastKey].size(2);
    k = at::cat({call.inputs[kPastKey], k}, 2);
    v = at::cat({call.inputs[kPastValue], v}, 2);
  }
  check_heads(q, k, v);
  spec.scale = node.number("scale", 1 / std::sqrt(static_cast<double>(q.size(3))));
  spec.softcap = node.number("softcap", 0);
  spec.causal = node.integer("is_causal", 0) != 0;
  spec.window = node.integer("local_window_size", 0);
  spec.softmax_in_double = node.integer("softmax_precision", 1) == kDouble;
  if (call.has(kMask)) spec.mask = wide_mask(call.inputs[kMask], q, k.size(2));
  const auto mode = wanted_mode(node);
  const bool aligned = q.size(2) == k.size(2) || (!spec.causal && spec.window == 0);
  const bool plain = !spec.mask.defined() && spec.past == 0 && spec.softcap == 0 && !mode &&
                     !spec.softmax_in_double && aligned && k.size(2) > 0;
  Chunk result;
  if (plain) {  // what language models run
    result.out = attention(
        q, k, v, {spec.causal, spec.window, spec.scale, call.options.attention_query_chunk});
  } else {
    result = general_attention(q, k.contiguous(), v.contiguous(), spec,
                               call.options.attention_query_chunk, mode);
  }
  if (call.inputs[kQ].dim() == 3)
    result.out = result.out.transpose(1, 2).reshape({q.size(0), q.size(2), q.size(1) * v.size(3)});
  return {result.out, k, v, result.scores};
}

}  // namespace packlight::exec

#include <algorithm>

#include "runtime/network/attention.h"
#include "runtime/network/operator.h"

namespace packlight::runtime {
namespace {

using codec::DType;
enum Input : size_t { kX, kCosine, kSine, kPositions };

// RotaryEmbedding: X [batch, sequence, heads * size] or [batch, heads, sequence, size]; caches
// [batch, sequence, rotated / 2], or [positions, rotated / 2] with position_ids.
struct Rotary {
  int64_t batch = 0, sequence = 0, heads = 0, size = 0, half = 0;
  bool heads_first = false, interleaved = false;
};

void check_caches(const OperatorCall& call, const Rotary& r) {
  const Tensor &cosine = call.input(kCosine), &sine = call.input(kSine);
  for (const Tensor* tensor : {&call.input(kX), &cosine, &sine}) {
    if (tensor->dtype != DType::kF32 || tensor->packed != nullptr)
      call.refuse("inputs are not dense F32");
  }
  if (cosine.dims != sine.dims)
    call.refuse("caches {} and {} differ", to_string(cosine.dims), to_string(sine.dims));
  if (!call.has(kPositions)) {
    const int64_t wanted[] = {r.batch, r.sequence, r.half};
    if (!std::ranges::equal(cosine.dims, wanted))
      call.refuse("caches are {}, not {}", to_string(cosine.dims), to_string(wanted));
    return;
  }
  if (cosine.rank() != 2 || cosine.dims[1] != r.half)
    call.refuse("caches {} do not fit {} rotated dimensions", to_string(cosine.dims), 2 * r.half);
  const Tensor& positions = call.input(kPositions);
  const int64_t wanted[] = {r.batch, r.sequence};
  if (positions.dtype != DType::kI64 || !std::ranges::equal(positions.dims, wanted))
    call.refuse("position_ids are {} of {}, not {} of I64", to_string(positions.dims),
                codec::info(positions.dtype).name, to_string(wanted));
}

Rotary checked_rotary(const OperatorCall& call) {
  const std::vector<int64_t>& x = call.input(kX).dims;
  if (x.size() != 3 && x.size() != 4) call.refuse("an input of rank {}, not 3 or 4", x.size());
  Rotary r;
  r.heads_first = x.size() == 4;
  r.interleaved = call.node.integer("interleaved", 0) != 0;
  r.batch = x[0];
  r.sequence = x[r.heads_first ? 2 : 1];
  r.heads = r.heads_first ? x[1] : call.node.integer("num_heads", 0);
  if (!r.heads_first && (r.heads <= 0 || x[2] % r.heads != 0))
    call.refuse("num_heads {} does not divide the last dimension of {}", r.heads, to_string(x));
  r.size = r.heads_first ? x[3] : x[2] / r.heads;
  int64_t rotated = call.node.integer("rotary_embedding_dim", 0);
  if (rotated == 0) rotated = r.size;
  if (rotated < 0 || rotated > r.size || rotated % 2 != 0)
    call.refuse("{} rotated of {} dimensions a head", rotated, r.size);
  r.half = rotated / 2;
  check_caches(call, r);
  return r;
}

bool rotary_shape(const ShapeCall& call) {
  checked_rotary(call);
  call.set(0, DType::kF32, call.input(kX).dims);
  return true;
}

// Pairs (i, i + half), or (2 i, 2 i + 1), of one head turn by the angle i.
void rotate(const Rotary& r, const float* x, const float* cosine, const float* sine, float* out) {
  const int64_t step = r.interleaved ? 2 : 1, other = r.interleaved ? 1 : r.half;
  for (int64_t i = 0; i < r.half; ++i) {
    const float a = x[i * step], b = x[i * step + other];
    out[i * step] = a * cosine[i] - b * sine[i];
    out[i * step + other] = a * sine[i] + b * cosine[i];
  }
  std::copy(x + 2 * r.half, x + r.size, out + 2 * r.half);
}

void rotary_run(const RunCall& call) {
  const Rotary r = checked_rotary(call);
  const float *x = call.input(kX).as<float>(), *cosine = call.input(kCosine).as<float>(),
              *sine = call.input(kSine).as<float>();
  const int64_t* positions = call.has(kPositions) ? call.input(kPositions).as<int64_t>() : nullptr;
  if (call.output(0).elements() == 0) return;
  for (int64_t i = 0; positions != nullptr && i < r.batch * r.sequence; ++i) {
    if (positions[i] < 0 || positions[i] >= call.input(kCosine).dims[0])
      call.refuse("position {} is outside the caches {}", positions[i],
                  to_string(call.input(kCosine).dims));
  }
  float* out = call.output(0).as<float>();
  // Rows are heads in the order in which they lie in memory.
  call.parallel(r.batch * r.sequence * r.heads, std::max<int64_t>(1, 8192 / r.size),
                [&](int64_t begin, int64_t end) {
                  for (int64_t row = begin; row < end; ++row) {
                    const int64_t b = row / (r.sequence * r.heads);
                    const int64_t s = r.heads_first ? row % r.sequence : row / r.heads % r.sequence;
                    const int64_t token = b * r.sequence + s;
                    const int64_t at = (positions == nullptr ? token : positions[token]) * r.half;
                    rotate(r, x + row * r.size, cosine + at, sine + at, out + row * r.size);
                  }
                });
}

constexpr Operator kOperators[] = {
    {"Attention", attention_shape, attention_run},
    {"RotaryEmbedding", rotary_shape, rotary_run},
};

}  // namespace

std::span<const Operator> attention_operators() { return kOperators; }

}  // namespace packlight::runtime

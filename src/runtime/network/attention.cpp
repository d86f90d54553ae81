#include "runtime/network/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/network/row_products.h"

namespace packlight::runtime {
namespace {

using codec::DType;
enum Input : size_t { kQ, kK, kV, kMask, kPastKey, kPastValue };
constexpr float kHidden = -std::numeric_limits<float>::infinity();
constexpr int64_t kDouble = 11;    // TensorProto.DataType
constexpr int64_t kBlockRows = 4;  // queries of a head that share the reads of keys and values

// [batch, sequence, heads * size] or [batch, heads, sequence, size].
struct Heads {
  int64_t batch = 0, heads = 0, sequence = 0, size = 0;
  bool heads_first = false;

  int64_t offset(int64_t b, int64_t head, int64_t position) const {
    return (heads_first ? (b * heads + head) * sequence + position
                        : (b * sequence + position) * heads + head) *
           size;
  }
};

struct Spec {
  Heads q, k, v;
  int64_t past = 0;  // query i stands where key i + past does
  int64_t keys = 0;  // past ones and those of this call
  float scale = 1, softcap = 0;
  bool causal = false;
  int64_t window = 0;  // > 0: a query sees the last `window` keys up to itself
  bool softmax_in_double = false;
  int64_t mode = 0;  // what the scores that are output have been through
  // Of the mask [batch, heads, queries, keys], in elements; 0 where it repeats. Keys from
  // mask_columns on are hidden.
  int64_t mask_strides[4] = {}, mask_columns = 0;
};

void expect_f32(const OperatorCall& call, size_t input, const char* name) {
  const Tensor& tensor = call.input(input);
  if (tensor.dtype != DType::kF32 || tensor.packed != nullptr)
    call.refuse("{} is not dense F32", name);
}

Heads split_heads(const OperatorCall& call, size_t input, const char* name, const char* attribute) {
  expect_f32(call, input, name);
  const std::vector<int64_t>& dims = call.input(input).dims;
  if (dims.size() == 4) return {dims[0], dims[1], dims[2], dims[3], true};
  const int64_t heads = call.node.integer(attribute, 0);
  if (dims.size() != 3 || heads <= 0 || dims[2] % heads != 0)
    call.refuse("{} is {}, which {} {} does not split", name, to_string(dims), attribute, heads);
  return {dims[0], heads, dims[1], dims[2] / heads, false};
}

void add_past(const OperatorCall& call, Spec& spec) {
  if (call.has(kPastKey) != call.has(kPastValue))
    call.refuse("past_key and past_value must be given together");
  spec.keys = spec.k.sequence;
  if (!call.has(kPastKey)) return;
  expect_f32(call, kPastKey, "past_key");
  expect_f32(call, kPastValue, "past_value");
  const std::vector<int64_t>&key = call.input(kPastKey).dims, &value = call.input(kPastValue).dims;
  if (key.size() == 4) spec.past = key[2];
  if (key != std::vector<int64_t>{spec.k.batch, spec.k.heads, spec.past, spec.k.size} ||
      value != std::vector<int64_t>{spec.v.batch, spec.v.heads, spec.past, spec.v.size})
    call.refuse("past_key {} and past_value {} do not fit key and value", to_string(key),
                to_string(value));
  if (__builtin_add_overflow(spec.keys, spec.past, &spec.keys))
    call.refuse("past_key {} is too long", to_string(key));
}

void check_mask(const OperatorCall& call, Spec& spec) {
  if (!call.has(kMask)) return;
  const Tensor& mask = call.input(kMask);
  if (mask.dtype != DType::kBool) expect_f32(call, kMask, "the mask");
  const int64_t wanted[] = {spec.q.batch, spec.q.heads, spec.q.sequence, spec.keys};
  const auto rank = static_cast<size_t>(mask.rank());
  bool fits = rank >= 1 && rank <= 4;
  int64_t stride = 1;
  for (size_t i = 0; fits && i < rank; ++i) {  // from the last dimension on
    const int64_t have = mask.dims[rank - 1 - i], want = wanted[3 - i];
    fits = have == 1 || have == want || (i == 0 && have < want);
    spec.mask_strides[3 - i] = have == 1 ? 0 : stride;
    if (__builtin_mul_overflow(stride, have, &stride)) fits = false;
  }
  if (!fits) {
    call.refuse("mask {} does not broadcast to {}", to_string(mask.dims), to_string(wanted));
  }
  spec.mask_columns = mask.dims.back() == 1 ? spec.keys : mask.dims.back();
}

Spec checked_spec(const OperatorCall& call) {
  const io::NetworkNode& node = call.node;
  Spec spec;
  spec.q = split_heads(call, kQ, "query", "q_num_heads");
  spec.k = split_heads(call, kK, "key", "kv_num_heads");
  spec.v = split_heads(call, kV, "value", "kv_num_heads");
  const Heads &q = spec.q, &k = spec.k, &v = spec.v;
  const bool fits = k.heads > 0 && q.heads % k.heads == 0 && q.batch == k.batch &&
                    k.batch == v.batch && k.heads == v.heads && k.sequence == v.sequence &&
                    q.size == k.size && q.heads_first == k.heads_first &&
                    k.heads_first == v.heads_first;
  if (!fits) {
    call.refuse("query {}, key {} and value {} do not fit each other",
                to_string(call.input(kQ).dims), to_string(call.input(kK).dims),
                to_string(call.input(kV).dims));
  }
  add_past(call, spec);
  check_mask(call, spec);
  spec.scale = static_cast<float>(node.number("scale", 1 / std::sqrt(static_cast<double>(q.size))));
  spec.softcap = static_cast<float>(node.number("softcap", 0));
  spec.causal = node.integer("is_causal", 0) != 0;
  spec.window = node.integer("local_window_size", 0);
  if (spec.window < 0) call.refuse("local_window_size is {}", spec.window);
  spec.softmax_in_double = node.integer("softmax_precision", 1) == kDouble;
  spec.mode = node.integer("qk_matmul_output_mode", 0);
  if (spec.mode < 0 || spec.mode > 3)
    call.refuse("qk_matmul_output_mode {} is outside 0 to 3", spec.mode);
  return spec;
}

// Work on the queries [first, first + rows) of one head.
class Block {
 public:
  Block(const RunCall& call, const Spec& spec) : call_(call), spec_(spec) {}

  void run(int64_t b, int64_t head, int64_t first, int64_t rows) {
    b_ = b;
    head_ = head;
    kv_head_ = head / (spec_.q.heads / spec_.k.heads);
    first_ = first;
    rows_ = rows;
    choose_keys();
    multiply();
    for (int64_t r = 0; r < rows_; ++r) finish_scores(r);
    add_values();
  }

 private:
  const float* rows_of(const Heads& heads, size_t past, size_t now, int64_t key) const {
    if (key >= spec_.past)
      return call_.input(now).as<float>() + heads.offset(b_, kv_head_, key - spec_.past);
    return call_.input(past).as<float>() +
           ((b_ * heads.heads + kv_head_) * spec_.past + key) * heads.size;
  }

  // The keys that a query sees by its place: [low_of(), high_of()).
  int64_t low_of(int64_t row) const {
    const int64_t query = first_ + row + spec_.past;
    return spec_.window == 0 ? 0 : std::clamp<int64_t>(query - spec_.window + 1, 0, spec_.keys);
  }
  int64_t high_of(int64_t row) const {
    const int64_t query = first_ + row + spec_.past;
    return spec_.causal ? std::min(spec_.keys, query + 1) : spec_.keys;
  }

  // Keys that no query of the block sees are not multiplied, unless their scores are asked for.
  void choose_keys() {
    const bool all = call_.wants(3);
    low_ = all ? 0 : low_of(0);
    high_ = all ? spec_.keys : std::max(low_, high_of(rows_ - 1));
    count_ = high_ - low_;
    scores_.resize(kBlockRows * count_);
  }

  void multiply() {
    const float* query = call_.input(kQ).as<float>();
    row_products(
        rows_, [&](int64_t r) { return query + spec_.q.offset(b_, head_, first_ + r); }, low_,
        high_, [&](int64_t key) { return rows_of(spec_.k, kPastKey, kK, key); }, spec_.q.size,
        [&](int64_t r, int64_t key, float dot) {
          scores_[r * count_ + key - low_] = dot * spec_.scale;
        });
  }

  // What is added to the score of a key.
  float mask_at(int64_t row, int64_t key) const {
    if (key >= spec_.mask_columns) return kHidden;
    const int64_t at = b_ * spec_.mask_strides[0] + head_ * spec_.mask_strides[1] +
                       (first_ + row) * spec_.mask_strides[2] + key * spec_.mask_strides[3];
    const Tensor& mask = call_.input(kMask);
    if (mask.dtype == DType::kBool) return mask.as<uint8_t>()[at] != 0 ? 0 : kHidden;
    return mask.as<float>()[at];
  }

  // The row of scores that is output, or null when it is not wanted.
  float* output_scores(int64_t row, int64_t mode) const {
    if (!call_.wants(3) || spec_.mode != mode) return nullptr;
    return call_.output(3).as<float>() +
           ((b_ * spec_.q.heads + head_) * spec_.q.sequence + first_ + row) * spec_.keys;
  }
  void show(int64_t row, int64_t mode) const {
    if (float* out = output_scores(row, mode))
      std::copy_n(scores_.data() + row * count_, count_, out);
  }

  // Softcap, mask, softmax, in this order.
  void finish_scores(int64_t row) {
    float* scores = scores_.data() + row * count_;
    show(row, 0);
    for (int64_t i = 0; spec_.softcap > 0 && i < count_; ++i)
      scores[i] = std::tanh(scores[i] / spec_.softcap) * spec_.softcap;
    show(row, 1);
    const bool sees = hide(row, scores);
    show(row, 2);
    if (sees) {
      spec_.softmax_in_double ? softmax<double>(scores) : softmax<float>(scores);
    } else {  // not infinity minus infinity
      std::fill_n(scores, count_, 0.0f);
    }
    show(row, 3);
  }

  // Adds the mask and returns whether the query sees any key.
  bool hide(int64_t row, float* scores) const {
    const int64_t low = low_of(row), high = high_of(row);
    const bool masked = call_.has(kMask);
    bool sees = false;
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t key = low_ + i;
      const float bias = key < low || key >= high ? kHidden : masked ? mask_at(row, key) : 0;
      // Whatever a hidden key holds, NaN even, has no part in it.
      scores[i] = bias == kHidden ? kHidden : scores[i] + bias;
      sees |= bias != kHidden;
    }
    return sees;
  }

  template <class T>
  void softmax(float* scores) const {
    float most = kHidden;
    for (int64_t i = 0; i < count_; ++i) most = std::max(most, scores[i]);
    double sum = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const T power = std::exp(static_cast<T>(scores[i]) - static_cast<T>(most));
      scores[i] = static_cast<float>(power);
      sum += power;
    }
    const auto factor = static_cast<float>(1 / sum);
    for (int64_t i = 0; i < count_; ++i) scores[i] *= factor;
  }

  void add_values() {
    const int64_t size = spec_.v.size;
    Heads out = spec_.q;
    out.size = size;
    float* rows[kBlockRows] = {};
    for (int64_t r = 0; r < rows_; ++r) {
      rows[r] = call_.output(0).as<float>() + out.offset(b_, head_, first_ + r);
      std::fill_n(rows[r], size, 0.0f);
    }
    for (int64_t i = 0; i < count_; ++i) {
      const float* value = rows_of(spec_.v, kPastValue, kV, low_ + i);
      for (int64_t r = 0; r < rows_; ++r) {
        const float weight = scores_[r * count_ + i];
        if (weight == 0) continue;  // a hidden key's value may be anything
        for (int64_t d = 0; d < size; ++d) rows[r][d] += weight * value[d];
      }
    }
  }

  const RunCall& call_;
  const Spec& spec_;
  int64_t b_ = 0, head_ = 0, kv_head_ = 0, first_ = 0, rows_ = 0;
  int64_t low_ = 0, high_ = 0, count_ = 0;  // the keys at hand
  std::vector<float> scores_;               // [rows, count]
};

// The past and this call's keys, or values, one after the other: [batch, heads, keys, size].
void store_present(const RunCall& call, const Spec& spec, const Heads& heads, size_t past,
                   size_t now, size_t output) {
  if (!call.wants(output) || call.output(output).elements() == 0) return;
  float* out = call.output(output).as<float>();
  for (int64_t group = 0; group < heads.batch * heads.heads; ++group) {
    if (spec.past > 0)
      out = std::copy_n(call.input(past).as<float>() + group * spec.past * heads.size,
                        spec.past * heads.size, out);
    for (int64_t i = 0; i < heads.sequence; ++i) {
      out = std::copy_n(
          call.input(now).as<float>() + heads.offset(group / heads.heads, group % heads.heads, i),
          heads.size, out);
    }
  }
}

void fill_zero(const RunCall& call, size_t output) {
  if (call.wants(output)) {
    std::fill_n(call.output(output).as<float>(), call.output(output).elements(), 0.0f);
  }
}

}  // namespace

bool attention_shape(const ShapeCall& call) {
  const Spec spec = checked_spec(call);
  const Heads &q = spec.q, &k = spec.k, &v = spec.v;
  int64_t width = 0;
  if (__builtin_mul_overflow(q.heads, v.size, &width))
    call.refuse("{} heads of {} values are too many", q.heads, v.size);
  call.set(0, DType::kF32,
           q.heads_first ? std::vector<int64_t>{q.batch, q.heads, q.sequence, v.size}
                         : std::vector<int64_t>{q.batch, q.sequence, width});
  call.set(1, DType::kF32, {k.batch, k.heads, spec.keys, k.size});
  call.set(2, DType::kF32, {v.batch, v.heads, spec.keys, v.size});
  call.set(3, DType::kF32, {q.batch, q.heads, q.sequence, spec.keys});
  return true;
}

void attention_run(const RunCall& call) {
  const Spec spec = checked_spec(call);
  const Heads &q = spec.q, &k = spec.k;
  store_present(call, spec, k, kPastKey, kK, 1);
  store_present(call, spec, spec.v, kPastValue, kV, 2);
  if (call.input(kQ).elements() == 0 || spec.keys == 0) {  // no key to see, or nobody to see it
    fill_zero(call, 0);
    fill_zero(call, 3);
    return;
  }
  const int64_t blocks = (q.sequence + kBlockRows - 1) / kBlockRows;
  call.parallel(q.batch * q.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    Block block(call, spec);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t head = item / blocks, first = item % blocks * kBlockRows;
      block.run(head / q.heads, head % q.heads, first, std::min(kBlockRows, q.sequence - first));
    }
  });
}

}  // namespace packlight::runtime

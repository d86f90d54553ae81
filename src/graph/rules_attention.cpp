#include "graph/expect_shape.h"
#include "graph/operator_rules.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

enum Input : size_t { kQ, kK, kV, kMask, kPastKey, kPastValue };

// The shape of one of query, key, value as [batch, heads, sequence, size].
struct HeadShape {
  Dim batch, heads, sequence, size;
};

HeadShape head_shape(const InferContext& context, const Shape& shape, const char* attribute) {
  if (shape.size() == 4) return {shape[0], shape[1], shape[2], shape[3]};
  if (shape.size() != 3) context.contradiction("input {} must have rank 3 or 4", to_string(shape));
  const int64_t heads = context.node().integer(attribute, 0);
  if (heads <= 0) context.contradiction("{} is {}: a rank-3 input needs it", attribute, heads);
  Dim size;
  if (shape[2].known()) {
    if (shape[2].value % heads != 0) {
      context.contradiction("{} {} does not divide the last dimension of {}", attribute, heads,
                            to_string(shape));
    }
    size = shape[2].value / heads;
  }
  return {shape[0], heads, shape[1], size};
}

// What the inputs say together.
struct Sizes {
  Dim batch, q_heads, kv_heads, queries, keys, size, value_size;
  Dim past = 0, total;
};

Sizes joint_sizes(const InferContext& context) {
  const Shape &q_shape = *context.shape(kQ), &k_shape = *context.shape(kK),
              &v_shape = *context.shape(kV);
  const HeadShape q = head_shape(context, q_shape, "q_num_heads");
  const HeadShape k = head_shape(context, k_shape, "kv_num_heads");
  const HeadShape v = head_shape(context, v_shape, "kv_num_heads");
  const bool fits = q_shape.size() == k_shape.size() && k_shape.size() == v_shape.size() &&
                    compatible(q.size, k.size) && compatible(k.heads, v.heads) &&
                    compatible(q.batch, k.batch) && compatible(k.batch, v.batch) &&
                    compatible(k.sequence, v.sequence);
  if (!fits) {
    context.contradiction("query {}, key {} and value {} do not fit each other", to_string(q_shape),
                          to_string(k_shape), to_string(v_shape));
  }
  Sizes sizes;
  sizes.batch = merged(q.batch, merged(k.batch, v.batch));
  sizes.q_heads = q.heads;
  sizes.kv_heads = merged(k.heads, v.heads);
  sizes.queries = q.sequence;
  sizes.keys = merged(k.sequence, v.sequence);
  sizes.size = merged(q.size, k.size);
  sizes.value_size = v.size;
  if (q.heads.known() && sizes.kv_heads.known() &&
      (sizes.kv_heads.value == 0 || q.heads.value % sizes.kv_heads.value != 0)) {
    context.contradiction("{} query heads are no multiple of {} key heads", q.heads.value,
                          sizes.kv_heads.value);
  }
  return sizes;
}

void add_past(const InferContext& context, Sizes& sizes) {
  if (context.has(kPastKey) != context.has(kPastValue))
    context.contradiction("past_key and past_value must be given together");
  sizes.total = sizes.keys;
  if (!context.has(kPastKey)) return;
  sizes.past = Dim();
  for (const size_t past : {kPastKey, kPastValue})
    merge_dim(context, past, "a past state", 4, 2, sizes.past);
  expect_shape(context, kPastKey, "past_key",
               {sizes.batch, sizes.kv_heads, sizes.past, sizes.size});
  expect_shape(context, kPastValue, "past_value",
               {sizes.batch, sizes.kv_heads, sizes.past, sizes.value_size});
  const bool known = sizes.past.known() && sizes.keys.known();
  sizes.total = known ? Dim(sizes.past.value + sizes.keys.value) : Dim();
}

// The mask broadcasts to [batch, query heads, queries, total keys]; its last dimension may be
// shorter, which hides the keys beyond it.
void check_mask(const InferContext& context, const Sizes& sizes) {
  const ElementType type = context.type(kMask);
  if (type != ElementType::kUndefined && type != ElementType::kBool && !is_float(type))
    context.contradiction("the mask is {}, not BOOL or float", element_type_name(type));
  const auto& mask = context.shape(kMask);
  if (!mask) return;
  const Shape wanted{sizes.batch, sizes.q_heads, sizes.queries, sizes.total};
  bool fits = mask->size() <= 4 && !mask->empty();
  for (size_t i = 0; fits && i < mask->size(); ++i) {
    const Dim &have = (*mask)[mask->size() - 1 - i], &want = wanted[3 - i];
    fits = have.value == 1 || compatible(have, want) || (i == 0 && have.value < want.value);
  }
  if (!fits)
    context.contradiction("mask {} does not broadcast to {}", to_string(*mask), to_string(wanted));
}

}  // namespace

void infer_attention(InferContext& context) {
  if (context.node().integer("local_window_size", 0) < 0)
    context.contradiction("local_window_size is negative");
  const int64_t mode = context.node().integer("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3)
    context.contradiction("qk_matmul_output_mode {} is outside 0 to 3", mode);
  const ElementType type = context.type(kQ);
  if (!context.shape(kQ) || !context.shape(kK) || !context.shape(kV)) {
    for (size_t i = 0; i < context.output_count(); ++i) context.set(i, type, std::nullopt);
    return;
  }
  Sizes sizes = joint_sizes(context);
  add_past(context, sizes);
  check_mask(context, sizes);
  if (context.shape(kQ)->size() == 4) {
    context.set(0, type, Shape{sizes.batch, sizes.q_heads, sizes.queries, sizes.value_size});
  } else {
    const Dim width = times(sizes.q_heads.value, sizes.value_size);
    context.set(0, type, Shape{sizes.batch, sizes.queries, width});
  }
  context.set(1, type, Shape{sizes.batch, sizes.kv_heads, sizes.total, sizes.size});
  context.set(2, type, Shape{sizes.batch, sizes.kv_heads, sizes.total, sizes.value_size});
  context.set(3, type, Shape{sizes.batch, sizes.q_heads, sizes.queries, sizes.total});
}

}  // namespace packlight::graph

#include "graph/expect_shape.h"
#include "graph/operator_rules.h"

namespace packlight::graph {

void infer_attention(InferContext& context);  // rules_attention.cpp

namespace {

void infer_rms_norm(InferContext& context) {
  const auto &x = context.shape(0), &scale = context.shape(1);
  if (x) {
    const int64_t axis = normalised_axis(context, context.node().integer("axis", -1),
                                         static_cast<int64_t>(x->size()));
    const Shape normalised(x->begin() + axis, x->end());
    if (scale) {
      const Shape wide = *broadcast(context, normalised, *scale);
      bool fits = wide.size() == normalised.size();
      for (size_t i = 0; fits && i < wide.size(); ++i) fits = compatible(wide[i], normalised[i]);
      if (!fits)
        context.contradiction("scale {} does not broadcast to {}", to_string(*scale),
                              to_string(normalised));
    }
  }
  context.set(0, context.type(0), x);
}

// X [batch, sequence, heads * size] or [batch, heads, sequence, size]; caches [batch, sequence,
// size / 2], or [positions, size / 2] with position_ids.
void infer_rotary(InferContext& context) {
  const auto& x = context.shape(0);
  if (x && x->size() != 3 && x->size() != 4)
    context.contradiction("input {} must have rank 3 or 4", to_string(*x));
  const int64_t heads = context.node().integer("num_heads", 0);
  if (x && x->size() == 3) {
    if (heads <= 0) context.contradiction("num_heads is {}: a rank-3 input needs it", heads);
    if (x->back().known() && x->back().value % heads != 0) {
      context.contradiction("num_heads {} does not divide the last dimension of {}", heads,
                            to_string(*x));
    }
  }
  const auto &cosine = context.shape(1), &sine = context.shape(2);
  for (const auto* cache : {&cosine, &sine}) {
    if (!*cache) continue;
    const size_t rank = context.has(3) ? 2 : 3;
    if ((*cache)->size() != rank)
      context.contradiction("cache {} must have rank {}", to_string(**cache), rank);
    if (!x || !x->back().known() || !(*cache)->back().known()) continue;
    const int64_t head_size = x->size() == 4 ? x->back().value : x->back().value / heads;
    int64_t rotated = context.node().integer("rotary_embedding_dim", 0);
    if (rotated == 0) rotated = head_size;
    if (rotated > head_size || rotated % 2 != 0 || (*cache)->back().value != rotated / 2) {
      context.contradiction("cache {} does not fit {} rotated of {} dimensions a head",
                            to_string(**cache), rotated, head_size);
    }
  }
  if (!x) return context.set(0, context.type(0), std::nullopt);
  const Dim &batch = (*x)[0], &sequence = (*x)[x->size() == 4 ? 2 : 1];
  if (context.has(3)) {
    expect_shape(context, 3, "position_ids", {batch, sequence});
  } else {
    expect_shape(context, 1, "cos_cache", {batch, sequence, Dim()});
    expect_shape(context, 2, "sin_cache", {batch, sequence, Dim()});
  }
  context.set(0, context.type(0), x);
}

constexpr OperatorRule kRules[] = {
    {"RMSNormalization", 2, 2, 1, 1, infer_rms_norm},
    {"RotaryEmbedding", 3, 4, 1, 1, infer_rotary},
    // Opset 23, with one attribute of our own: local_window_size w > 0 lets a query see the last w
    // keys only (itself included).
    {"Attention", 3, 6, 1, 4, infer_attention},
};

}  // namespace

std::span<const OperatorRule> transformer_rules() { return kRules; }

}  // namespace packlight::graph

#include "graph/coupling/coupling_rules.h"

namespace packlight::graph {
namespace {

// The last axis of [batch, sequence, heads * size]: indices [h * size, (h + 1) * size) are head h.
Axis heads_of(CouplingContext& context, const Axis& axis, int64_t heads) {
  Axis result = context.fixed(heads, "is not known");
  if (axis.fixed() || heads < 1 || axis.size % heads != 0) {
    context.block(axis, "does not divide into heads");
    result.reason = axis.fixed() ? axis.reason : result.reason;
    return result;
  }
  const int64_t size = axis.size / heads;
  for (int64_t i = 0; i < axis.size; ++i) context.unite(axis.units[i], axis.units[i / size * size]);
  for (int64_t h = 0; h < heads; ++h) result.units.push_back(axis.units[h * size]);
  if (heads == 1) {
    context.block(axis, "is the only head");
    result.units.clear();
  }
  return result;
}

// Each head's index as often as it has elements.
Axis spread(const Axis& heads, int64_t size) {
  Axis axis = heads;
  axis.size = heads.size < 0 || size < 0 ? -1 : heads.size * size;
  axis.units.clear();
  for (const UnitId head : heads.units) axis.units.insert(axis.units.end(), size, head);
  return axis;
}

// RotaryEmbedding turns pairs of a head's elements: a head goes as a whole.
void couple_rotary(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  if (x.size() == 4) {
    context.block(x[3], "is turned in pairs");
  } else {
    heads_of(context, x[2], context.node().integer("num_heads", 0));
  }
  for (size_t i = 1; i < 3; ++i) {
    for (const Axis& axis : context.axes(i)) context.block(axis, "is turned in pairs");
  }
  context.set(0, x);
}

void cut_rotary(CutContext& context) {
  const ValueId x = context.input(0);
  if (context.rank(x) != 3 || context.kept(x, 2) == nullptr) return;
  const int64_t heads = context.node().integer("num_heads", 0);
  context.node().attributes["num_heads"] = heads * context.left(x, 2) / context.size(x, 2);
}

// Attention: y[h] = softmax(q[h] k[h / r]^T) v[h / r], r query heads for each head of keys and
// values.
//   r = 1: head h of q, k, v and y is one unit
//   r > 1: head g of k and v is one unit and takes query heads g r to g r + r - 1 with it; one of
//          those goes alone when each other head g loses one as well
//   q [n, s, 9 * 64], k and v [n, s, 3 * 64]: columns 64 to 127 of k and v are unit 1 of the keys;
//   columns 192 to 255 of q and y are query head 3, which goes with it
void couple_attention(CouplingContext& context) {
  if (context.has(4) || context.has(5)) context.stop("has past keys");
  const Node& node = context.node();
  for (size_t i = 1; i < node.outputs.size(); ++i) {
    if (node.outputs[i] != kNone) context.stop("has outputs besides the first");
  }
  const ValueAxes q = context.axes(0), k = context.axes(1), v = context.axes(2);
  const bool split = q.size() == 4;  // [batch, heads, sequence, size]
  const Axis q_heads = split ? q[1] : heads_of(context, q[2], node.integer("q_num_heads", 0));
  const Axis k_heads = split ? k[1] : heads_of(context, k[2], node.integer("kv_num_heads", 0));
  const Axis v_heads = split ? v[1] : heads_of(context, v[2], node.integer("kv_num_heads", 0));
  const size_t sequence = split ? 2 : 1;
  for (const ValueAxes* one : {&q, &k, &v}) context.block((*one)[sequence], "is the sequence");
  if (split) {
    context.block(q[3], "is summed over");
    context.block(k[3], "is summed over");
  }
  context.unite(k_heads, v_heads);
  if (q_heads.size == k_heads.size) {
    context.unite(q_heads, k_heads);
  } else if (!q_heads.fixed() && !k_heads.fixed()) {
    context.nest(k_heads, q_heads);
    context.mark(k_heads, GroupKind::kKeyValueHeads);
  } else {
    context.block(q_heads, "uses keys that stay");
    context.block(k_heads, "is used by query heads that stay");
  }
  context.mark(q_heads, GroupKind::kHeads);
  if (context.has(3)) {
    const ValueAxes& mask = context.axes(3);
    if (mask.size() >= 3 && mask[mask.size() - 3].size != 1)
      context.unite(mask[mask.size() - 3], q_heads);
  }
  const Axis batch = context.fixed(q[0].size, "is the batch");
  if (split) return context.set(0, {q[0], q_heads, q[2], v[3]});
  const int64_t v_size = v_heads.size > 0 && v[2].size > 0 ? v[2].size / v_heads.size : -1;
  context.set(
      0, {batch, q[1], q_heads.fixed() ? context.fixed(-1, "is fixed") : spread(q_heads, v_size)});
}

void cut_attention(CutContext& context) {
  if (context.rank(context.input(0)) != 3) return;
  const auto shrink = [&](const char* attribute, size_t input) {
    const ValueId x = context.input(input);
    if (context.kept(x, 2) == nullptr) return;
    const int64_t heads = context.node().integer(attribute, 0);
    context.node().attributes[attribute] = heads * context.left(x, 2) / context.size(x, 2);
  };
  shrink("q_num_heads", 0);
  shrink("kv_num_heads", 1);
}

constexpr CouplingRule kRules[] = {
    {"Attention", couple_attention, cut_attention},
    {"RotaryEmbedding", couple_rotary, cut_rotary},
};

}  // namespace

std::span<const CouplingRule> coupling_of_attention() { return kRules; }

}  // namespace packlight::graph

#include "graph/simplify/fuse_attention.h"

#include <algorithm>

#include "graph/simplify/known.h"
#include "graph/simplify/match.h"

namespace packlight::graph {
namespace {

constexpr size_t kRank = 4;  // batch, heads, length, size

struct Scores {
  ValueId q = kNone, k_transposed = kNone, mask = kNone;
  NodeId product = -1;
  double scale = 1;
};

// Steps over scalings by numbers.
ValueId unscaled(const Edit& edit, ValueId value, double& scale) {
  for (;;) {
    const Node* node = inner(edit, value, "Mul");
    if (node == nullptr) node = inner(edit, value, "Div");
    const auto scaled = node != nullptr ? scaling(edit, *node) : std::nullopt;
    if (!scaled) return value;
    scale *= scaled->number;
    value = scaled->x;
  }
}

bool has_rank(const Edit& edit, ValueId value) {
  return value != kNone && edit.shape(value) && edit.shape(value)->size() == kRank;
}

// Whether adding the mask leaves the scores' shape, and it has the last dimension in full.
bool is_mask(const Edit& edit, ValueId mask, ValueId scores) {
  if (mask == kNone || !edit.shape(mask) || !edit.shape(scores)) return false;
  const Shape &small = *edit.shape(mask), &large = *edit.shape(scores);
  return small.size() >= 2 && broadcasts_into(small, large) && same(small.back(), large.back()) &&
         edit.graph().value(mask).type == ElementType::kF32;
}

std::optional<Scores> scores_of(const Edit& edit, ValueId value) {
  Scores result;
  if (const Node* add = inner(edit, value, "Add")) {
    const int of = is_mask(edit, add->inputs[1], add->inputs[0])   ? 0
                   : is_mask(edit, add->inputs[0], add->inputs[1]) ? 1
                                                                   : -1;
    if (of < 0) return std::nullopt;
    result.mask = add->inputs[1 - of];
    value = add->inputs[of];
  }
  value = unscaled(edit, value, result.scale);
  const Node* product = inner(edit, value, "MatMul");
  if (product == nullptr) return std::nullopt;
  result.product = edit.producer(value);
  result.q = unscaled(edit, product->inputs[0], result.scale);
  result.k_transposed = unscaled(edit, product->inputs[1], result.scale);
  return result;
}

// What the keys are a transpose of, and how: k = Transpose(source, perm).
struct Keys {
  ValueId source = kNone;
  std::vector<int64_t> perm;
};
Keys keys(const Edit& edit, ValueId transposed, double& scale) {
  const Node* transpose = inner(edit, transposed, "Transpose");
  if (transpose == nullptr) return {transposed, {0, 1, 3, 2}};
  Keys result{transpose->inputs[0], permutation(*transpose, kRank)};
  std::swap(result.perm[2], result.perm[3]);
  if (is_identity(result.perm)) result.source = unscaled(edit, result.source, scale);
  return result;
}

bool same_heads(const Edit& edit, ValueId a, ValueId b) {
  const Shape &x = *edit.shape(a), &y = *edit.shape(b);
  return same(x[0], y[0]) && same(x[1], y[1]);
}

// A Transpose of the keys in the place of the product, which is not needed any more.
ValueId put_transpose(Edit& edit, NodeId at, const Keys& keys) {
  Graph& graph = edit.graph();
  Node node{.name = edit.node(at).name,
            .op = "Transpose",
            .inputs = {keys.source},
            .attributes = {{"perm", keys.perm}},
            .block = edit.node(at).block};
  Value value{.name = graph.free_name(node.name + ".keys"),
              .type = graph.value(keys.source).type,
              .shape = Shape()};
  for (const int64_t axis : keys.perm) value.shape->push_back((*edit.shape(keys.source))[axis]);
  node.outputs = {graph.add_value(std::move(value))};
  const ValueId made = node.outputs[0];
  edit.put(at, std::move(node));
  return made;
}

bool fuse_at(Edit& edit, NodeId id) {
  const Node& last = edit.node(id);
  if (last.op != "MatMul") return false;
  const Node* softmax = inner(edit, last.inputs[0], "Softmax");
  const ValueId v = last.inputs[1];
  if (softmax == nullptr || !has_rank(edit, v)) return false;
  const int64_t axis = softmax->integer("axis", -1);
  if (axis != -1 && axis != static_cast<int64_t>(kRank) - 1) return false;
  auto scores = scores_of(edit, softmax->inputs[0]);
  if (!scores || !has_rank(edit, scores->q) || !has_rank(edit, scores->k_transposed) ||
      !same_heads(edit, scores->q, scores->k_transposed) || !same_heads(edit, scores->q, v))
    return false;
  const Keys from = keys(edit, scores->k_transposed, scores->scale);
  if (!has_rank(edit, from.source)) return false;
  std::vector<ValueId> inputs = {scores->q, from.source, v};
  if (scores->mask != kNone) inputs.push_back(scores->mask);
  if (is_identity(from.perm)) {
    fuse(edit, id, "Attention", inputs, {{"scale", scores->scale}});
    return true;
  }
  // The product's place is taken once nobody reads it: the Attention first reads the source.
  const NodeId product = scores->product;
  fuse(edit, id, "Attention", inputs, {{"scale", scores->scale}});
  edit.set_input(id, 1, put_transpose(edit, product, from));
  return true;
}

}  // namespace

int fuse_attention(Graph& graph) { return fuse_everywhere(graph, fuse_at); }

}  // namespace packlight::graph

// Rotary embedding and attention (opset 23) as what they are made of.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "deploy/onnx_downgrade.h"

namespace packlight::deploy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const std::vector<int64_t> kSwapHeads = {0, 2, 1, 3};

graph::Shape shape_of(OnnxScope& scope, const OnnxNode& node, size_t input, const char* what) {
  const auto shape = scope.facts(node.inputs.at(input)).shape;
  if (!shape || (shape->size() != 3 && shape->size() != 4))
    scope.needs(node, 23, fmt::format("{} whose rank is not known to be 3 or 4", what));
  return *shape;
}

std::string slice_last(OnnxParts& parts, const std::string& x, int64_t begin, int64_t end,
                       int64_t step = 1) {
  OnnxScope& scope = parts.scope();
  return parts.make("Slice", {x, scope.integers({begin}), scope.integers({end}),
                              scope.integers({-1}), scope.integers({step})});
}

// Heads of one input: [batch, heads, sequence, size].
struct Heads {
  std::string value;
  int64_t count = 0;
  std::optional<int64_t> size;
};

Heads split_heads(OnnxParts& parts, const OnnxNode& node, size_t input, const char* attribute) {
  OnnxScope& scope = parts.scope();
  const graph::Shape shape = shape_of(scope, node, input, "an input");
  Heads heads{node.inputs[input], node.integer(attribute, 0), std::nullopt};
  if (shape.size() == 4) {
    if (!shape[1].known()) scope.needs(node, 23, "a number of heads that is not known");
    heads.count = shape[1].value;
    if (shape[3].known()) heads.size = shape[3].value;
    return heads;
  }
  if (heads.count <= 0) scope.refuse(node, "{} is {}", attribute, heads.count);
  if (shape[2].known()) heads.size = shape[2].value / heads.count;
  const std::string split =
      parts.make("Reshape", {heads.value, scope.integers({0, 0, heads.count, -1})});
  heads.value = parts.make("Transpose", {split}, {{"perm", kSwapHeads}});
  return heads;
}

// Every key or value head as often as query heads share it.
std::string repeat_heads(OnnxParts& parts, const std::string& x, int64_t heads, int64_t times) {
  if (times == 1) return x;
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < heads * times; ++i) indices.push_back(i / times);
  return parts.make("Gather", {x, parts.scope().integers(indices)}, {{"axis", int64_t{1}}});
}

class AttentionParts {
 public:
  AttentionParts(OnnxScope& scope, const OnnxNode& node)
      : scope_(scope), node_(node), parts_(scope, node) {}

  void write() {
    if (node_.makes(3)) scope_.needs(node_, 23, "output qk_matmul_output");
    const bool rank3 = shape_of(scope_, node_, 0, "a query").size() == 3;
    const Heads q = split_heads(parts_, node_, 0, "q_num_heads");
    const Heads k = split_heads(parts_, node_, 1, "kv_num_heads");
    const Heads v = split_heads(parts_, node_, 2, "kv_num_heads");
    if (k.count == 0 || q.count % k.count != 0)
      scope_.refuse(node_, "{} query heads are no multiple of {} key heads", q.count, k.count);
    const std::string keys = joined(k.value, 4, 1), values = joined(v.value, 5, 2);
    const int64_t times = q.count / k.count;
    std::string scores = scaled_scores(q, repeat_heads(parts_, keys, k.count, times));
    const std::string weights = softmax(masked(std::move(scores)));
    const std::string all = repeat_heads(parts_, values, k.count, times);
    if (!rank3) {
      parts_.make("MatMul", {weights, all}, {}, node_.outputs.at(0));
      return;
    }
    const std::string heads = parts_.make("MatMul", {weights, all});
    const std::string rows = parts_.make("Transpose", {heads}, {{"perm", kSwapHeads}});
    parts_.make("Reshape", {rows, scope_.integers({0, 0, -1})}, {}, node_.outputs.at(0));
  }

 private:
  // What came before (input `past`) and the new; also output `present` when asked for.
  std::string joined(const std::string& now, size_t past, size_t present) {
    const std::string name = node_.makes(present) ? node_.outputs[present] : "";
    if (node_.has(past))
      return parts_.make("Concat", {node_.inputs[past], now}, {{"axis", int64_t{2}}}, name);
    return name.empty() ? now : parts_.make("Identity", {now}, {}, name);
  }

  std::string scaled_scores(const Heads& q, const std::string& keys) {
    double scale = node_.number("scale", 0);
    if (node_.attributes.count("scale") == 0) {
      if (!q.size || *q.size == 0) scope_.needs(node_, 23, "a head size that is not known");
      scale = 1 / std::sqrt(static_cast<double>(*q.size));
    }
    const std::string query = parts_.make("Mul", {q.value, scope_.number(scale)});
    const std::string across =
        parts_.make("Transpose", {keys}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
    const std::string scores = parts_.make("MatMul", {query, across});
    const double cap = node_.number("softcap", 0);
    if (cap <= 0) return scores;
    const std::string bent =
        parts_.make("Tanh", {parts_.make("Div", {scores, scope_.number(cap)})});
    return parts_.make("Mul", {bent, scope_.number(cap)});
  }

  std::string hide(const std::string& shown, const std::string& scores) {
    return parts_.make("Where", {shown, scores, scope_.number(-kInfinity)});
  }

  std::string masked(std::string scores) {
    if (node_.has(3)) {
      const auto mask = scope_.facts(node_.inputs[3]);
      if (mask.type == graph::ElementType::kUndefined)
        scope_.needs(node_, 23, "a mask whose type is not known");
      scores = mask.type == graph::ElementType::kBool
                   ? hide(node_.inputs[3], scores)
                   : parts_.make("Add", {scores, node_.inputs[3]});
    }
    const bool causal = node_.integer("is_causal", 0) != 0;
    const int64_t window = node_.integer("local_window_size", 0);
    if (!causal && window <= 0) return scores;
    const std::string ahead = column_minus_row(parts_, scores), before = past_length();
    if (causal) scores = hide(parts_.make("LessOrEqual", {ahead, before}), scores);
    if (window > 0) {  // the last `window` keys only
      const std::string from = parts_.make("Sub", {before, scope_.integer(window)});
      scores = hide(parts_.make("Greater", {ahead, from}), scores);
    }
    return scores;
  }

  // How many keys come before those of the first query.
  std::string past_length() {
    if (!node_.has(4)) return scope_.integer(0);
    const std::string shape = parts_.make("Shape", {node_.inputs[4]});
    return parts_.make("Gather", {shape, scope_.integer(2)}, {{"axis", int64_t{0}}});
  }

  // A query that a mask or the window lets see nothing gets zeros, no NaN.
  std::string softmax(const std::string& scores) {
    const std::string weights = parts_.make("Softmax", {scores}, {{"axis", int64_t{-1}}});
    if (!node_.has(3) && node_.integer("local_window_size", 0) <= 0) return weights;
    const std::string best =
        parts_.make("ReduceMax", {scores, scope_.integers({-1})}, {{"keepdims", int64_t{1}}});
    const std::string blind = parts_.make("Equal", {best, scope_.number(-kInfinity)});
    return parts_.make("Where", {blind, scope_.number(0), weights});
  }

  OnnxScope& scope_;
  const OnnxNode& node_;
  OnnxParts parts_;
};

// How many elements of a head turn.
int64_t rotated_size(OnnxScope& scope, const OnnxNode& node, const graph::Shape& shape) {
  int64_t rotated = node.integer("rotary_embedding_dim", 0);
  const int64_t heads = node.integer("num_heads", 0);
  const auto cache = scope.facts(node.inputs.at(1)).shape;
  if (rotated == 0 && cache && !cache->empty() && cache->back().known()) {
    rotated = 2 * cache->back().value;
  } else if (rotated == 0 && shape.back().known() && (shape.size() == 4 || heads > 0)) {
    rotated = shape.size() == 4 ? shape.back().value : shape.back().value / heads;
  }
  if (rotated <= 0) scope.needs(node, 23, "a head size that is not known");
  return rotated;
}

}  // namespace

void decompose_attention(OnnxScope& scope, OnnxNode node) {
  // A window is the graph's own: no opset has it.
  const bool windowed = node.integer("local_window_size", 0) > 0;
  if (scope.opset() >= 23 && !windowed) {
    node.attributes.erase("local_window_size");
    return scope.emit_as_is(std::move(node));
  }
  AttentionParts(scope, node).write();
}

// (a, b) -> (a cos - b sin, a sin + b cos), a and b the halves of a head, or its even and odd
// elements.
void decompose_rotary_embedding(OnnxScope& scope, OnnxNode node) {
  OnnxParts parts(scope, node);
  const graph::Shape shape = shape_of(scope, node, 0, "an input");
  const bool whole = node.integer("rotary_embedding_dim", 0) == 0;
  const int64_t heads = node.integer("num_heads", 0), rotated = rotated_size(scope, node, shape);
  const bool rank3 = shape.size() == 3;
  if (rank3 && heads <= 0) scope.refuse(node, "num_heads is {}", heads);
  const std::string x =
      rank3 ? parts.make("Reshape", {node.inputs[0], scope.integers({0, 0, heads, -1})})
            : node.inputs[0];
  // [batch, sequence, half] beside [batch, sequence, heads, half] or [batch, heads, sequence, half]
  const auto angles = [&](size_t input) {
    std::string values = node.inputs.at(input);
    if (node.has(3))
      values = parts.make("Gather", {values, node.inputs[3]}, {{"axis", int64_t{0}}});
    return parts.make("Unsqueeze", {values, scope.integers({rank3 ? 2 : 1})});
  };
  const std::string cosine = angles(1), sine = angles(2);
  const bool interleaved = node.integer("interleaved", 0) != 0;
  const std::string a =
      interleaved ? slice_last(parts, x, 0, rotated, 2) : slice_last(parts, x, 0, rotated / 2);
  const std::string b = interleaved ? slice_last(parts, x, 1, rotated, 2)
                                    : slice_last(parts, x, rotated / 2, rotated);
  const auto product = [&](const std::string& left, const std::string& right) {
    return parts.make("Mul", {left, right});
  };
  std::string first = parts.make("Sub", {product(a, cosine), product(b, sine)});
  std::string second = parts.make("Add", {product(a, sine), product(b, cosine)});
  std::vector<std::string> pieces = {first, second};
  if (interleaved) {
    for (std::string& piece : pieces)
      piece = parts.make("Unsqueeze", {piece, scope.integers({-1})});
    const std::string pairs = parts.make("Concat", pieces, {{"axis", int64_t{-1}}});
    pieces = {parts.make("Reshape", {pairs, scope.integers({0, 0, 0, -1})})};
  }
  if (!whole) pieces.push_back(slice_last(parts, x, rotated, std::numeric_limits<int64_t>::max()));
  if (!rank3) {
    parts.make("Concat", pieces, {{"axis", int64_t{-1}}}, node.outputs.at(0));
    return;
  }
  const std::string turned = parts.make("Concat", pieces, {{"axis", int64_t{-1}}});
  parts.make("Reshape", {turned, scope.integers({0, 0, -1})}, {}, node.outputs.at(0));
}

}  // namespace packlight::deploy

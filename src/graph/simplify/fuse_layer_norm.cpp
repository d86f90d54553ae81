#include "graph/simplify/fuse_layer_norm.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graph/simplify/known.h"
#include "graph/simplify/match.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

// The first of the last dimensions that a ReduceMean of a tensor of `rank` dimensions takes the
// mean over; nothing when it takes others, or drops them.
std::optional<int64_t> reduced_from(const Edit& edit, const Node& mean, int64_t rank) {
  if (mean.integer("keepdims", 1) != 1 || mean.inputs.size() < 2) return std::nullopt;
  auto axes = constant_integers(edit.graph(), mean.inputs[1]);
  if (!axes || axes->empty()) return std::nullopt;
  for (int64_t& axis : *axes) axis += axis < 0 ? rank : 0;
  std::sort(axes->begin(), axes->end());
  const auto count = static_cast<int64_t>(axes->size());
  for (int64_t i = 0; i < count; ++i) {
    if ((*axes)[i] != rank - count + i) return std::nullopt;
  }
  return rank - count;
}

// Whether `value` is the square of d.
bool is_square(const Edit& edit, ValueId value, ValueId d) {
  if (const Node* pow = inner(edit, value, "Pow"))
    return pow->inputs[0] == d && is_number(edit.graph(), pow->inputs[1], 2);
  const Node* mul = inner(edit, value, "Mul");
  return mul != nullptr && mul->inputs[0] == d && mul->inputs[1] == d;
}

struct Normalized {
  ValueId x = kNone;
  int64_t axis = 0;
  double epsilon = 0;
};

// `div` as the normalized x.
std::optional<Normalized> normalized(const Edit& edit, const Node& div) {
  if (div.op != "Div") return std::nullopt;
  const ValueId d = div.inputs[0];
  const Node* sub = edit.maker(d, "Sub");
  const Node* root = inner(edit, div.inputs[1], "Sqrt");
  const Node* add = root != nullptr ? inner(edit, root->inputs[0], "Add") : nullptr;
  const auto variance = add != nullptr ? with_number(edit, *add) : std::nullopt;
  if (sub == nullptr || !variance || edit.is_output(d)) return std::nullopt;
  Normalized result{sub->inputs[0], 0, variance->number};
  const Node* mean = inner(edit, sub->inputs[1], "ReduceMean");
  const Node* squares = inner(edit, variance->x, "ReduceMean");
  const auto& shape = edit.shape(result.x);
  if (mean == nullptr || mean->inputs[0] != result.x || squares == nullptr || !shape)
    return std::nullopt;
  const ValueId square = squares->inputs[0];
  if (!is_square(edit, square, d)) return std::nullopt;
  // Nobody but the quotient and the square uses d.
  const int wanted = edit.maker(square, "Mul") != nullptr ? 3 : 2;
  const auto rank = static_cast<int64_t>(shape->size());
  const auto axis = reduced_from(edit, *mean, rank);
  if (edit.uses(d) != wanted || !axis || reduced_from(edit, *squares, rank) != axis)
    return std::nullopt;
  result.axis = *axis;
  return result;
}

// The node that alone uses `value`, if it is `op` with a constant of this shape.
struct WithConstant {
  NodeId node = -1;
  ValueId constant = kNone;
};
std::optional<WithConstant> next(const Edit& edit, ValueId value, std::string_view op,
                                 const Shape& shape) {
  const auto user = edit.only_user(value);
  if (!user || edit.node(*user).op != op || !edit.node(*user).domain.empty()) return std::nullopt;
  const std::vector<ValueId>& inputs = edit.node(*user).inputs;
  const ValueId other = inputs[inputs[0] == value ? 1 : 0];
  const at::Tensor* constant = dense_constant(edit.graph(), other);
  if (constant == nullptr || !constant->is_floating_point() || edit.shape(other) != shape)
    return std::nullopt;
  return WithConstant{*user, other};
}

bool fuse_at(Edit& edit, NodeId id) {
  const auto found = normalized(edit, edit.node(id));
  if (!found) return false;
  const Shape& shape = *edit.shape(found->x);
  const Shape part(shape.begin() + found->axis, shape.end());
  std::vector<int64_t> sizes;
  for (const Dim& dim : part) {
    if (!dim.known()) return false;  // a scale of ones would need its size
    sizes.push_back(dim.value);
  }
  std::vector<ValueId> inputs = {found->x};
  const auto scale = next(edit, edit.node(id).outputs[0], "Mul", part);
  const auto bias = next(edit, edit.node(scale ? scale->node : id).outputs[0], "Add", part);
  if (scale) {
    inputs.push_back(scale->constant);
  } else {
    const std::string name = edit.graph().free_name(edit.node(id).name + ".scale");
    inputs.push_back(edit.graph().add_weight(name, at::ones(sizes)));
  }
  if (bias) inputs.push_back(bias->constant);
  fuse(edit,
       bias    ? bias->node
       : scale ? scale->node
               : id,
       "LayerNormalization", inputs,
       {{"axis", found->axis - static_cast<int64_t>(shape.size())}, {"epsilon", found->epsilon}});
  return true;
}

}  // namespace

int fuse_layer_norm(Graph& graph) { return fuse_everywhere(graph, fuse_at); }

}  // namespace packlight::graph

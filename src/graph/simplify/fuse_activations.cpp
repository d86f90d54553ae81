#include "graph/simplify/fuse_activations.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "graph/simplify/known.h"
#include "graph/simplify/match.h"

namespace packlight::graph {
namespace {

// Clip(x + shift, 0, top)
struct ClippedShift {
  ValueId x = kNone;
  double shift = 0, top = 0;
};

std::optional<ClippedShift> clipped_shift(const Edit& edit, ValueId value) {
  const Node* clip = inner(edit, value, "Clip");
  if (clip == nullptr || clip->inputs.size() < 3) return std::nullopt;
  const auto low = scalar_constant(edit.graph(), clip->inputs[1]),
             high = scalar_constant(edit.graph(), clip->inputs[2]);
  const Node* add = inner(edit, clip->inputs[0], "Add");
  if (add == nullptr || !low || *low != 0 || !high || *high <= 0) return std::nullopt;
  const auto shifted = with_number(edit, *add);
  if (!shifted) return std::nullopt;
  return ClippedShift{shifted->x, shifted->number, *high};
}

bool hard_sigmoid_at(Edit& edit, NodeId id) {
  const auto scaled = scaling(edit, edit.node(id));
  if (!scaled) return false;
  const auto clipped = clipped_shift(edit, scaled->x);
  if (!clipped || !near(scaled->number * clipped->top, 1)) return false;
  fuse(edit, id, "HardSigmoid", {clipped->x},
       {{"alpha", 1 / clipped->top}, {"beta", clipped->shift / clipped->top}});
  return true;
}

// The other factor of a product of `x` and another.
ValueId other_factor(const Node& mul, ValueId x) {
  if (mul.inputs[0] == x) return mul.inputs[1];
  return mul.inputs[1] == x ? mul.inputs[0] : kNone;
}

bool is_gate(const Edit& edit, ValueId value, ValueId x) {
  const Node* gate = inner(edit, value, "HardSigmoid");
  return gate != nullptr && gate->inputs[0] == x && near(gate->number("alpha", 0.2), 1 / 6.0) &&
         near(gate->number("beta", 0.5), 0.5);
}

// x * HardSigmoid(x)
bool gated_hard_swish(Edit& edit, NodeId id) {
  const Node& mul = edit.node(id);
  if (mul.op != "Mul") return false;
  for (const ValueId x : mul.inputs) {
    if (!is_gate(edit, other_factor(mul, x), x)) continue;
    fuse(edit, id, "HardSwish", {x});
    return true;
  }
  return false;
}

// (x * Clip(x + 3, 0, 6)) / 6
bool divided_hard_swish(Edit& edit, NodeId id) {
  const auto scaled = scaling(edit, edit.node(id));
  const Node* mul = scaled ? inner(edit, scaled->x, "Mul") : nullptr;
  if (mul == nullptr || !near(scaled->number, 1 / 6.0)) return false;
  for (const ValueId x : mul->inputs) {
    const auto clipped = clipped_shift(edit, other_factor(*mul, x));
    if (!clipped || clipped->x != x || clipped->shift != 3 || clipped->top != 6) continue;
    fuse(edit, id, "HardSwish", {ValueId{x}});
    return true;
  }
  return false;
}

bool hard_swish_at(Edit& edit, NodeId id) {
  return gated_hard_swish(edit, id) || divided_hard_swish(edit, id);
}

// x of x / sqrt(2)
bool is_over_root_two(const Edit& edit, ValueId value, ValueId x) {
  for (const char* op : {"Div", "Mul"}) {
    const Node* node = inner(edit, value, op);
    const auto scaled = node != nullptr ? scaling(edit, *node) : std::nullopt;
    if (scaled && scaled->x == x && near(scaled->number, 1 / std::numbers::sqrt2)) return true;
  }
  return false;
}

// 0.044715 * x^3
bool is_cube_term(const Edit& edit, ValueId value, ValueId x) {
  const Node* mul = inner(edit, value, "Mul");
  if (mul == nullptr) return false;
  const Product term = product(edit, *mul);
  if (!near(term.number, 0.044715)) return false;
  if (term.values == std::vector<ValueId>{x, x, x}) return true;
  const Node* pow = term.values.size() == 1 ? inner(edit, term.values[0], "Pow") : nullptr;
  return pow != nullptr && pow->inputs[0] == x && is_number(edit.graph(), pow->inputs[1], 3);
}

// sqrt(2 / pi) * (x + 0.044715 * x^3)
bool is_tanh_argument(const Edit& edit, ValueId value, ValueId x) {
  const Node* mul = inner(edit, value, "Mul");
  const auto scaled = mul != nullptr ? scaling(edit, *mul) : std::nullopt;
  if (!scaled || !near(scaled->number, std::sqrt(2 / std::numbers::pi))) return false;
  const Node* add = inner(edit, scaled->x, "Add");
  if (add == nullptr) return false;
  return (add->inputs[0] == x && is_cube_term(edit, add->inputs[1], x)) ||
         (add->inputs[1] == x && is_cube_term(edit, add->inputs[0], x));
}

// "none" or "tanh" when `value` is 1 + Erf(..) or 1 + Tanh(..) of x; else "".
std::string gelu_gate(const Edit& edit, ValueId value, ValueId x) {
  const Node* add = inner(edit, value, "Add");
  const auto one = add != nullptr ? with_number(edit, *add) : std::nullopt;
  if (!one || one->number != 1) return "";
  const Node* erf = inner(edit, one->x, "Erf");
  if (erf != nullptr && is_over_root_two(edit, erf->inputs[0], x)) return "none";
  const Node* tanh = inner(edit, one->x, "Tanh");
  if (tanh != nullptr && is_tanh_argument(edit, tanh->inputs[0], x)) return "tanh";
  return "";
}

bool gelu_at(Edit& edit, NodeId id) {
  if (edit.node(id).op != "Mul") return false;
  const Product whole = product(edit, edit.node(id));
  if (whole.number != 0.5 || whole.values.size() != 2) return false;
  for (size_t i = 0; i < 2; ++i) {
    const ValueId x = whole.values[i];
    const std::string form = gelu_gate(edit, whole.values[1 - i], x);
    if (form.empty()) continue;
    fuse(edit, id, "Gelu", {x}, {{"approximate", form}});
    return true;
  }
  return false;
}

}  // namespace

int fuse_hard_sigmoid(Graph& graph) { return fuse_everywhere(graph, hard_sigmoid_at); }
int fuse_hard_swish(Graph& graph) { return fuse_everywhere(graph, hard_swish_at); }
int fuse_gelu(Graph& graph) { return fuse_everywhere(graph, gelu_at); }

}  // namespace packlight::graph

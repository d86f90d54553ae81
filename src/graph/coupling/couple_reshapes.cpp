// The same elements in order, under other axes.

#include <algorithm>

#include "graph/coupling/coupling_rules.h"

namespace packlight::graph {
namespace {

// Axes of x that hold the same elements as axes of y, those of one index left out.
struct Piece {
  std::vector<size_t> x, y;
};

std::vector<size_t> long_axes(const Shape& shape) {
  std::vector<size_t> axes;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (!shape[i].known() || shape[i].value != 1) axes.push_back(i);
  }
  return axes;
}

// Takes axes from one end of both shapes while their numbers multiply to the same.
//   [n, 360] and [n, 3, 8, 15]: n and n; then, from the end, 360 and 3, 8, 15
class Aligner {
 public:
  Aligner(const Shape& x, const Shape& y)
      : x_shape_(x), y_shape_(y), x_(long_axes(x)), y_(long_axes(y)) {}

  std::vector<Piece> align() {
    size_t begin = 0;
    for (; begin < x_.size() && begin < y_.size() && same(begin, begin); ++begin)
      pieces_.push_back({{x_[begin]}, {y_[begin]}});
    x_.erase(x_.begin(), x_.begin() + static_cast<std::ptrdiff_t>(begin));
    y_.erase(y_.begin(), y_.begin() + static_cast<std::ptrdiff_t>(begin));
    while (!x_.empty() && !y_.empty() && take_from_end()) {
    }
    return pieces_;
  }

 private:
  bool same(size_t x, size_t y) const {
    const Dim &a = x_shape_[x_[x]], &b = y_shape_[y_[y]];
    return a == b && (a.known() || !a.symbol.empty());
  }

  bool take_from_end() {
    size_t x_at = x_.size() - 1, y_at = y_.size() - 1;
    if (!same(x_at, y_at) && !meet(x_at, y_at)) return false;
    pieces_.push_back({{x_.begin() + static_cast<std::ptrdiff_t>(x_at), x_.end()},
                       {y_.begin() + static_cast<std::ptrdiff_t>(y_at), y_.end()}});
    x_.resize(x_at);
    y_.resize(y_at);
    return true;
  }

  // Goes back on the side whose numbers multiply to less until both are equal.
  bool meet(size_t& x_at, size_t& y_at) const {
    int64_t of_x = x_shape_[x_[x_at]].value, of_y = y_shape_[y_[y_at]].value;
    while (of_x > 0 && of_y > 0 && of_x != of_y) {
      const bool is_x = of_x < of_y;
      size_t& at = is_x ? x_at : y_at;
      if (at == 0) return false;
      --at;
      const int64_t size = is_x ? x_shape_[x_[at]].value : y_shape_[y_[at]].value;
      int64_t& product = is_x ? of_x : of_y;
      if (size <= 0 || __builtin_mul_overflow(product, size, &product)) return false;
    }
    return of_x > 0 && of_y > 0;
  }

  const Shape &x_shape_, &y_shape_;
  std::vector<size_t> x_, y_;  // axes that are not taken yet
  std::vector<Piece> pieces_;
};

// For each element of an axis that several make up, its index on each of them that has units.
std::vector<UnitId> joined_units(CouplingContext& context, const std::vector<Axis*>& parts,
                                 int64_t count) {
  std::vector<UnitId> units(count);
  for (int64_t i = 0; i < count; ++i) {
    std::vector<UnitId> mine;
    int64_t rest = i;
    for (size_t k = parts.size(); k-- > 0; rest /= parts[k]->size) {
      if (!parts[k]->fixed()) mine.insert(mine.begin(), parts[k]->units[rest % parts[k]->size]);
    }
    units[i] = context.compound(mine);
  }
  return units;
}

// One axis on one side, several on the other (ones do not count): index i of the one is
// (i1, i2, ...) of the others, and goes when any of them does.
void couple_piece(CouplingContext& context, const ValueAxes& x, ValueAxes& y, const Piece& piece,
                  const Shape& y_shape) {
  const std::vector<size_t>&from = piece.x, &to = piece.y;
  if (from.size() == 1 && to.size() == 1) {
    y[to[0]] = x[from[0]];
  } else if (from.size() == 1 && !x[from[0]].fixed()) {
    std::vector<Axis*> parts;
    for (const size_t i : to) {
      y[i] = context.fresh(y_shape[i].value);
      parts.push_back(&y[i]);
    }
    const std::vector<UnitId> units = joined_units(context, parts, x[from[0]].size);
    for (size_t i = 0; i < units.size(); ++i) context.unite(x[from[0]].units[i], units[i]);
  } else if (to.size() == 1) {
    ValueAxes copy = x;
    std::vector<Axis*> parts;
    bool any = false;
    for (const size_t i : from) {
      parts.push_back(&copy[i]);
      any = any || !copy[i].fixed();
    }
    if (!any) return;
    // What all fixed axes agree on cannot go by itself; it needs no part.
    y[to[0]].size = y_shape[to[0]].value;
    y[to[0]].units = joined_units(context, parts, y[to[0]].size);
  } else {
    for (const size_t i : from) context.block(x[i], "is mixed with others");
  }
}

// y = x under another shape.
void couple_reshape(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const auto& shape = context.output_shape(0);
  const auto& x_shape = context.graph().value(context.node().inputs[0]).shape;
  if (!shape || !x_shape) context.stop("has an output of unknown rank");
  ValueAxes y;
  for (const Dim& dim : *shape) y.push_back(context.fixed(dim, "is mixed with others"));
  std::vector<bool> seen(x.size(), false);
  for (const Piece& piece : Aligner(*x_shape, *shape).align()) {
    couple_piece(context, x, y, piece, *shape);
    for (const size_t axis : piece.x) seen[axis] = true;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    if (!seen[i]) context.block(x[i], "is mixed with others");
  }
  context.set(0, std::move(y));
}

// Reshape and Expand to a shape that is computed: what is computed would not follow.
void block_computed(CouplingContext& context) {
  if (context.integers(1)) return;
  for (const Axis& axis : context.axes(0)) context.block(axis, "has a computed shape");
}

void couple_reshape_to(CouplingContext& context) {
  block_computed(context);
  couple_reshape(context);
}

// The numbers of a constant shape are told again, but for 0 (as it was) and -1 (what is left).
void cut_shape(CutContext& context) {
  auto target = context.integers(1);
  if (!target) return;
  bool changed = false;
  const ValueId y = context.output(0);
  const size_t offset = context.rank(y) - target->size();  // Expand: the last axes
  for (size_t i = 0; i < target->size(); ++i) {
    const auto axis = static_cast<int>(offset + i);
    if ((*target)[i] <= 0 || context.kept(y, axis) == nullptr || (*target)[i] == 1) continue;
    (*target)[i] = context.left(y, axis);
    changed = true;
  }
  if (changed) context.set_integers(1, *target);
}

// Squeeze and Unsqueeze: axes of one index go and come, the others pass.
void couple_squeeze(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  std::vector<bool> gone(x.size(), false);
  if (context.has(1)) {
    const auto axes = context.integers(1);
    if (!axes) context.stop("has computed axes");
    for (const int64_t axis : *axes) gone[wrapped_axis(axis, x.size())] = true;
  } else {
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i].size < 0) context.stop("may take an axis of unknown size away");
      gone[i] = x[i].size == 1;
    }
  }
  ValueAxes out;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!gone[i]) out.push_back(x[i]);
  }
  context.set(0, std::move(out));
}

void couple_unsqueeze(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const auto axes = context.integers(1);
  if (!axes) context.stop("has computed axes");
  std::vector<bool> is_new(x.size() + axes->size(), false);
  for (const int64_t axis : *axes) is_new[wrapped_axis(axis, is_new.size())] = true;
  ValueAxes out;
  size_t next = 0;
  for (const bool added : is_new)
    out.push_back(added ? context.fixed(1, "has one index") : x[next++]);
  context.set(0, std::move(out));
}

// Expand: an axis of one index is stretched; the others pass.
void couple_expand(CouplingContext& context) {
  block_computed(context);
  const ValueAxes& x = context.axes(0);
  const auto& shape = context.output_shape(0);
  if (!shape) context.stop("has an output of unknown rank");
  ValueAxes out;
  for (const Dim& dim : *shape) out.push_back(context.fixed(dim, "is stretched"));
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i].size != 1) out[out.size() - x.size() + i] = x[i];
  }
  context.set(0, std::move(out));
}

constexpr CouplingRule kRules[] = {
    {"Expand", couple_expand, cut_shape},      {"Flatten", couple_reshape},
    {"Reshape", couple_reshape_to, cut_shape}, {"Squeeze", couple_squeeze},
    {"Unsqueeze", couple_unsqueeze},
};

}  // namespace

std::span<const CouplingRule> coupling_of_reshapes() { return kRules; }

}  // namespace packlight::graph

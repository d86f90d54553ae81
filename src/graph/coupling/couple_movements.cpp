// What puts indices elsewhere without computing.

#include <algorithm>

#include "graph/coupling/coupling_rules.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

// y = x with its axes in another order: so are their units.
void couple_transpose(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  std::vector<int64_t> perm = context.node().integers("perm");
  if (perm.empty()) {
    for (size_t i = x.size(); i-- > 0;) perm.push_back(static_cast<int64_t>(i));
  }
  ValueAxes out;
  for (const int64_t axis : perm) out.push_back(x[axis]);
  context.set(0, std::move(out));
}

// y = [a, b, ...] along an axis: index i of a is index i of y, index i of b is index |a| + i. The
// other axes are united.
//   a [n, 8, h, w], b [n, 4, h, w]: channel 2 of b is channel 10 of y
void couple_concat(CouplingContext& context) {
  const size_t rank = context.axes(0).size();
  const auto axis = static_cast<size_t>(wrapped_axis(context.node().integer("axis", 0), rank));
  std::vector<ValueAxes> parts;
  for (size_t i = 0; i < context.node().inputs.size(); ++i) parts.push_back(context.axes(i));
  ValueAxes out = parts[0];
  Axis joined;
  joined.size = 0;
  bool known = true, any = false;
  for (const ValueAxes& part : parts) {
    known = known && part[axis].size >= 0;
    any = any || !part[axis].fixed();
    for (size_t i = 0; i < rank; ++i) {
      if (i == axis) continue;
      context.unite(out[i], part[i]);
      if (out[i].fixed() && !part[i].fixed()) out[i] = part[i];
    }
  }
  if (!known || !any) {
    int64_t size = 0;
    for (const ValueAxes& part : parts) {
      context.block(part[axis], "is joined to an axis of unknown size");
      size += part[axis].size;
    }
    joined = context.fixed(known ? size : -1, "is joined of axes that stay");
    if (any) context.block(joined, "is joined to an axis of unknown size");
  } else {
    for (const ValueAxes& part : parts) {
      Axis piece = part[axis];
      if (piece.fixed()) {
        for (int64_t i = 0; i < piece.size; ++i)
          piece.units.push_back(context.one_that_stays(piece));
      }
      joined.units.insert(joined.units.end(), piece.units.begin(), piece.units.end());
      joined.size += piece.size;
    }
  }
  out[axis] = std::move(joined);
  context.set(0, std::move(out));
}

// Indices [begin, end) of an axis.
Axis piece_of(const Axis& axis, int64_t begin, int64_t end) {
  Axis piece = axis;
  piece.size = end - begin;
  if (!axis.fixed()) piece.units.assign(axis.units.begin() + begin, axis.units.begin() + end);
  return piece;
}

// Split: index i of output k is index (sizes before k) + i of x.
void couple_split(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const auto axis = static_cast<size_t>(wrapped_axis(context.node().integer("axis", 0), x.size()));
  if (x[axis].size < 0 || (context.has(1) && !context.integers(1)))
    context.stop("has pieces of unknown size");
  int64_t begin = 0;
  for (size_t i = 0; i < context.node().outputs.size(); ++i) {
    const auto& shape = context.output_shape(i);
    if (!shape || !(*shape)[axis].known()) context.stop("has pieces of unknown size");
    ValueAxes out = x;
    out[axis] = piece_of(x[axis], begin, begin + (*shape)[axis].value);
    begin += (*shape)[axis].value;
    context.set(i, std::move(out));
  }
}

void cut_split(CutContext& context) {
  const ValueId x = context.input(0);
  const auto axis =
      static_cast<int>(wrapped_axis(context.node().integer("axis", 0), context.rank(x)));
  if (context.kept(x, axis) == nullptr) return;
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < context.node().outputs.size(); ++i)
    sizes.push_back(context.left(context.output(i), axis));
  context.node().attributes.erase("num_outputs");
  context.set_integers(1, sizes);
}

struct SliceSpec {
  std::vector<int64_t> starts, ends, axes, steps;
};

template <class Context>
std::optional<SliceSpec> slice_spec(Context& context, size_t rank) {
  const auto starts = context.integers(1), ends = context.integers(2);
  if (!starts || !ends) return std::nullopt;
  SliceSpec spec{*starts, *ends, {}, std::vector<int64_t>(starts->size(), 1)};
  if (context.has(3)) {
    const auto axes = context.integers(3);
    if (!axes) return std::nullopt;
    spec.axes = *axes;
  } else {
    for (size_t i = 0; i < starts->size(); ++i) spec.axes.push_back(static_cast<int64_t>(i));
  }
  if (context.has(4)) {
    const auto steps = context.integers(4);
    if (!steps) return std::nullopt;
    spec.steps = *steps;
  }
  for (int64_t& axis : spec.axes) axis = wrapped_axis(axis, rank);
  return spec;
}

int64_t clamped(int64_t at, int64_t size) {
  return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
}

// Slice with steps of 1: index i of y is index start + i of x. Other steps block.
void couple_slice(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const auto& shape = context.output_shape(0);
  const auto spec = slice_spec(context, x.size());
  if (!shape) context.stop("has an output of unknown rank");
  ValueAxes out = x;
  if (!spec) {  // which axes is not known either
    for (size_t i = 0; i < x.size(); ++i) {
      context.block(x[i], "has computed bounds");
      out[i] = context.fixed((*shape)[i], "has computed bounds");
    }
    return context.set(0, std::move(out));
  }
  for (size_t i = 0; i < spec->axes.size(); ++i) {
    const int64_t axis = spec->axes[i];
    if (x[axis].fixed()) {
      out[axis] = context.fixed((*shape)[axis], "is part of an axis that stays");
      continue;
    }
    if (spec->steps[i] != 1) {
      context.block(x[axis], "is sliced in steps");
      out[axis] = context.fixed((*shape)[axis], "is sliced in steps");
      continue;
    }
    const int64_t begin = clamped(spec->starts[i], x[axis].size);
    out[axis] = piece_of(x[axis], begin, std::max(begin, clamped(spec->ends[i], x[axis].size)));
  }
  context.set(0, std::move(out));
}

void cut_slice(CutContext& context) {
  const ValueId x = context.input(0);
  auto spec = slice_spec(context, context.rank(x));
  if (!spec) return;
  bool changed = false;
  for (size_t i = 0; i < spec->axes.size(); ++i) {
    const auto axis = static_cast<int>(spec->axes[i]);
    const std::vector<int64_t>* kept = context.kept(x, axis);
    if (kept == nullptr) continue;
    const int64_t size = context.size(x, axis);
    const int64_t begin = clamped(spec->starts[i], size);
    const auto before = [&](int64_t at) {
      return std::lower_bound(kept->begin(), kept->end(), at) - kept->begin();
    };
    spec->starts[i] = before(begin);
    spec->ends[i] = before(std::max(begin, clamped(spec->ends[i], size)));
    changed = true;
  }
  if (!changed) return;
  context.set_integers(1, spec->starts);
  context.set_integers(2, spec->ends);
}

// Gather: y = x with `axis` replaced by the axes of the indices; which of its indices are taken is
// told by number, so they stay. The others pass.
//   an embedding: x [vocabulary, width], tokens [n, s] -> y [n, s, width]
void couple_gather(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const ValueAxes& indices = context.axes(1);
  const auto axis = static_cast<size_t>(wrapped_axis(context.node().integer("axis", 0), x.size()));
  context.block(x[axis], "has its indices told by number");
  for (const Axis& one : indices) context.block(one, "holds numbers of indices");
  ValueAxes out(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(axis));
  for (const Axis& one : indices) out.push_back(context.fixed(one.size, "is chosen by number"));
  out.insert(out.end(), x.begin() + static_cast<std::ptrdiff_t>(axis) + 1, x.end());
  context.set(0, std::move(out));
}

// Tile: axes that are repeated once pass.
void couple_tile(CouplingContext& context) {
  const auto repeats = context.integers(1);
  if (!repeats) context.stop("has computed repeats");
  const ValueAxes& x = context.axes(0);
  ValueAxes out = x;
  for (size_t i = 0; i < x.size(); ++i) {
    if ((*repeats)[i] == 1) continue;
    context.block(x[i], "is repeated");
    out[i] = context.fixed(x[i].size < 0 ? -1 : x[i].size * (*repeats)[i], "is repeated");
  }
  context.set(0, std::move(out));
}

// Whether nobody asks for element `axis` of a shape of `rank` elements, or of a cast of it: all
// that read it take other elements.
bool is_size_unread(const CouplingContext& context, ValueId shape, int64_t axis, size_t rank) {
  const Graph& graph = context.graph();
  for (const NodeId id : context.users(shape)) {
    const Node& user = graph.node(id);
    const auto numbers = [&](size_t input) -> std::optional<std::vector<int64_t>> {
      if (input >= user.inputs.size() || user.inputs[input] == kNone) return std::nullopt;
      return constant_integers(graph, user.inputs[input]);
    };
    const auto first = numbers(1), second = numbers(2), step = numbers(4);
    if (user.op == "Cast") {
      if (!is_size_unread(context, user.outputs[0], axis, rank)) return false;
    } else if (user.op == "Gather" && first) {
      for (const int64_t at : *first) {
        if (wrapped_axis(at, rank) == axis) return false;
      }
    } else if (user.op == "Slice" && first && second && first->size() == 1 &&
               (user.inputs.size() < 5 || (step && (*step)[0] == 1))) {
      const auto size = static_cast<int64_t>(rank);
      if (clamped((*first)[0], size) <= axis && axis < clamped((*second)[0], size)) return false;
    } else {
      return false;
    }
  }
  return std::find(graph.outputs.begin(), graph.outputs.end(), shape) == graph.outputs.end();
}

// Shape: axes whose size somebody reads stay; it is not known what is computed from it.
void couple_shape(CouplingContext& context) {
  const ValueAxes& x = context.axes(0);
  const auto rank = static_cast<int64_t>(x.size());
  const int64_t begin = clamped(context.node().integer("start", 0), rank);
  const int64_t end = clamped(context.node().integer("end", rank), rank);
  for (int64_t i = begin; i < end; ++i) {
    if (!is_size_unread(context, context.node().outputs[0], i - begin, end - begin))
      context.block(x[i], "has its size read");
  }
  context.set(0, {context.fixed(end - begin, "is a shape")});
}

constexpr CouplingRule kRules[] = {
    {"Concat", couple_concat},          {"Gather", couple_gather},          {"Shape", couple_shape},
    {"Slice", couple_slice, cut_slice}, {"Split", couple_split, cut_split}, {"Tile", couple_tile},
    {"Transpose", couple_transpose},
};

}  // namespace

std::span<const CouplingRule> coupling_of_movements() { return kRules; }

}  // namespace packlight::graph

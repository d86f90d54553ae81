#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>

#include "graph/operator_rules.h"
#include "graph/weight.h"
#include "operators/slice.h"

namespace packlight::graph {
namespace {

// Elements of a small integer vector pass through; a rank-0 value is a vector of one.
void pass_contents(InferContext& context) {
  if (auto elements = context.contents(0)) context.set_contents(0, std::move(*elements));
}

void infer_transpose(InferContext& context) {
  const auto& shape = context.shape(0);
  if (!shape) return context.set(0, context.type(0), std::nullopt);
  const auto rank = static_cast<int64_t>(shape->size());
  std::vector<int64_t> perm = context.node().integers("perm");
  if (perm.empty()) {  // the default reverses the dimensions
    for (int64_t i = rank - 1; i >= 0; --i) perm.push_back(i);
  }
  std::vector<bool> seen(rank, false);
  if (static_cast<int64_t>(perm.size()) != rank) {
    context.contradiction("perm has {} entries for shape {}", perm.size(), to_string(*shape));
  }
  Shape out;
  for (const int64_t axis : perm) {
    if (axis < 0 || axis >= rank || seen[axis])
      context.contradiction("perm is no permutation of {} axes", rank);
    seen[axis] = true;
    out.push_back((*shape)[axis]);
  }
  context.set(0, context.type(0), std::move(out));
}

void concat_contents(InferContext& context) {
  InferContext::Elements out;
  for (size_t i = 0; i < context.input_count(); ++i) {
    const auto elements = context.contents(i);
    if (elements) {
      out.insert(out.end(), elements->begin(), elements->end());
      continue;
    }
    const auto& shape = context.shape(i);  // unknown elements, but how many?
    if (!shape || shape->size() != 1 || !(*shape)[0].known() || (*shape)[0].value > kMaxRank)
      return;
    out.resize(out.size() + (*shape)[0].value);
  }
  context.set_contents(0, std::move(out));
}

// The axes of Squeeze and Unsqueeze in a tensor of `rank` dimensions, each once.
std::vector<bool> marked_axes(const InferContext& context, const std::vector<int64_t>& axes,
                              int64_t rank) {
  std::vector<bool> marked(rank, false);
  for (const int64_t axis : axes) {
    const int64_t at = normalised_axis(context, axis, rank);
    if (marked[at]) context.contradiction("axis {} is given twice", axis);
    marked[at] = true;
  }
  return marked;
}

void infer_unsqueeze(InferContext& context) {
  const auto& shape = context.shape(0);
  const auto axes = context.integers(1);
  // Contents are of rank 0 or 1 only.
  if (shape && axes && shape->size() + axes->size() <= 1) pass_contents(context);
  if (!shape || !axes) return context.set(0, context.type(0), std::nullopt);
  const std::vector<bool> added =
      marked_axes(context, *axes, static_cast<int64_t>(shape->size() + axes->size()));
  Shape out;
  size_t next = 0;
  for (const bool is_new : added) out.push_back(is_new ? Dim(1) : (*shape)[next++]);
  context.set(0, context.type(0), std::move(out));
}

void infer_squeeze(InferContext& context) {
  pass_contents(context);
  const auto& shape = context.shape(0);
  const auto axes = context.integers(1);
  if (!shape || (context.has(1) && !axes)) return context.set(0, context.type(0), std::nullopt);
  std::vector<bool> removed;
  if (axes) {
    removed = marked_axes(context, *axes, static_cast<int64_t>(shape->size()));
  } else {  // every dimension of size one; unknowable while a dimension is
    for (const Dim& dim : *shape) {
      if (!dim.known()) return context.set(0, context.type(0), std::nullopt);
      removed.push_back(dim.value == 1);
    }
  }
  Shape out;
  for (size_t i = 0; i < shape->size(); ++i) {
    if (!removed[i]) {
      out.push_back((*shape)[i]);
    } else if (!compatible((*shape)[i], Dim(1))) {
      context.contradiction("axis {} of {} is not of size 1", i, to_string(*shape));
    }
  }
  context.set(0, context.type(0), std::move(out));
}

// The target shape as written: -1 stays unknown (its place goes to `inferred`), 0 copies the
// input's dimension.
Shape reshape_target(const InferContext& context, const std::optional<Shape>& shape,
                     const InferContext::Elements& wanted, int64_t& inferred) {
  const bool allow_zero = context.node().integer("allowzero", 0) != 0;
  Shape out;
  std::vector<int64_t> unknown;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (!wanted[i].number) {
      if (wanted[i].symbol.empty()) unknown.push_back(static_cast<int64_t>(i));
      out.push_back(wanted[i].dim());
      continue;
    }
    const int64_t size = *wanted[i].number;
    if (size == -1) {
      if (inferred >= 0) context.contradiction("two dimensions of the target shape are -1");
      inferred = static_cast<int64_t>(i);
      out.push_back(Dim());
    } else if (size == 0 && !allow_zero) {
      if (shape && i >= shape->size()) {
        context.contradiction("dimension {} of {} is copied but absent", i, to_string(*shape));
      }
      out.push_back(shape ? (*shape)[i] : Dim());
    } else if (size < 0) {
      context.contradiction("dimension {} of the target shape is {}", i, size);
    } else {
      out.push_back(size);
    }
  }
  // A single element that is not known is determined by the others as -1 is.
  if (inferred < 0 && unknown.size() == 1) inferred = unknown[0];
  return out;
}

// Takes the numbers out of both lists where their products are equal.
void cancel_numbers(std::vector<Dim>& left, std::vector<Dim>& right) {
  const auto is_number = [](const Dim& dim) { return dim.known(); };
  std::vector<Dim> numbers[2];
  std::copy_if(left.begin(), left.end(), std::back_inserter(numbers[0]), is_number);
  std::copy_if(right.begin(), right.end(), std::back_inserter(numbers[1]), is_number);
  const Dim have = product(numbers[0]), need = product(numbers[1]);
  if (have.value <= 0 || have != need) return;
  std::erase_if(left, is_number);
  std::erase_if(right, is_number);
}

// Fills out[inferred] (if >= 0) and checks that element counts agree. Equal dimensions on both
// sides cancel, so symbols carry through; what is left must be numbers to say more.
void balance(const InferContext& context, const Shape& shape, Shape& out, int64_t inferred) {
  std::vector<Dim> left = shape, right;
  for (size_t i = 0; i < out.size(); ++i) {
    if (static_cast<int64_t>(i) == inferred) continue;
    const bool comparable = out[i].value > 0 || !out[i].symbol.empty();  // zeros do not cancel
    const auto same = comparable ? std::find(left.begin(), left.end(), out[i]) : left.end();
    if (same != left.end()) {
      left.erase(same);
    } else {
      right.push_back(out[i]);
    }
  }
  cancel_numbers(left, right);
  const Dim have = product(left), need = product(right);
  if (have.known() && need.known()) {
    const bool fits = inferred < 0      ? have.value == need.value
                      : need.value == 0 ? have.value == 0
                                        : have.value % need.value == 0;
    if (!fits) context.contradiction("{} does not reshape to {}", to_string(shape), to_string(out));
    if (inferred >= 0 && need.value > 0) out[inferred] = have.value / need.value;
  } else if (inferred >= 0 && need.value == 1) {
    out[inferred] = have;
  }
}

void infer_reshape(InferContext& context) {
  const auto elements = context.contents(1);
  if (!elements) {
    const auto& target = context.shape(1);  // its length is at least the rank
    const bool counted =
        target && target->size() == 1 && (*target)[0].known() && (*target)[0].value <= kMaxRank;
    return context.set(0, context.type(0),
                       counted ? std::optional(Shape((*target)[0].value)) : std::nullopt);
  }
  if (elements->size() <= 1) pass_contents(context);
  // Dimensions of which nothing is known get a name for the while, so that a copied one cancels.
  const std::string mark = "?#";
  std::optional<Shape> shape = context.shape(0);
  for (size_t i = 0; shape && i < shape->size(); ++i) {
    if ((*shape)[i] == Dim()) (*shape)[i] = Dim(mark + std::to_string(i));
  }
  int64_t inferred = -1;
  Shape out = reshape_target(context, shape, *elements, inferred);
  if (shape) balance(context, *shape, out, inferred);
  for (Dim& dim : out) {
    if (dim.symbol.starts_with(mark)) dim = Dim();
  }
  context.set(0, context.type(0), std::move(out));
}

// As a matrix: the dimensions before the axis are its rows.
void infer_flatten(InferContext& context) {
  const auto& shape = context.shape(0);
  if (!shape) return context.set(0, context.type(0), Shape(2));
  const auto rank = static_cast<int64_t>(shape->size());
  int64_t axis = context.node().integer("axis", 1);
  if (axis != rank) axis = rank == 0 && axis == 1 ? 0 : normalised_axis(context, axis, rank);
  const std::span<const Dim> dims = *shape;
  context.set(0, context.type(0), Shape{product(dims.first(axis)), product(dims.subspan(axis))});
}

void infer_concat(InferContext& context) {
  concat_contents(context);
  for (size_t i = 1; i < context.input_count(); ++i) same_type(context, 0, i);
  std::optional<Shape> out = context.shape(0);
  int64_t axis = 0;
  if (out)
    axis = normalised_axis(context, context.node().integer("axis", 0),
                           static_cast<int64_t>(out->size()));
  for (size_t i = 1; out && i < context.input_count(); ++i) {
    const auto& shape = context.shape(i);
    if (!shape) {
      out.reset();
      break;
    }
    if (shape->size() != out->size())
      context.contradiction("ranks of {} and {} differ", to_string(*out), to_string(*shape));
    for (size_t d = 0; d < out->size(); ++d) {
      Dim& dim = (*out)[d];
      const Dim& other = (*shape)[d];
      if (static_cast<int64_t>(d) == axis) {
        dim = dim.known() && other.known() ? Dim(dim.value + other.value) : Dim();
      } else if (!compatible(dim, other)) {
        context.contradiction("shapes {} and {} differ outside axis {}", to_string(*out),
                              to_string(*shape), axis);
      } else {
        dim = merged(dim, other);
      }
    }
  }
  context.set(0, context.type(0), std::move(out));
}

// An end that means "to the last element": exporters write the largest number of 32 or 64 bits.
constexpr int64_t kFar = std::numeric_limits<int32_t>::max();

using Element = InferContext::Element;

Dim sliced(const Dim& dim, const Element& start, const Element& end, const Element& step) {
  if (!start.number || !step.number) return Dim();
  if (dim.known() && end.number)
    return operators::slice_range(dim.value, *start.number, *end.number, *step.number).length;
  const bool to_the_end = end.number ? *end.number >= kFar : dim == end.dim();
  const bool from_the_end = *start.number == -1 || *start.number >= kFar;
  const bool whole = *step.number == 1
                         ? *start.number == 0 && to_the_end
                         : *step.number == -1 && from_the_end && end.number && *end.number <= -kFar;
  return whole && !(dim == Dim()) ? dim : Dim();
}

void slice_contents(InferContext& context, const Element& start, const Element& end,
                    const Element& step) {
  const auto elements = context.contents(0);
  if (!elements || !start.number || !end.number || !step.number) return;
  const operators::SliceRange range = operators::slice_range(
      static_cast<int64_t>(elements->size()), *start.number, *end.number, *step.number);
  InferContext::Elements out;
  for (int64_t i = 0; i < range.length; ++i)
    out.push_back((*elements)[range.start + i * range.step]);
  context.set_contents(0, std::move(out));
}

// What an input of Slice says of axis after axis: unknown elements where only `count` is known.
InferContext::Elements slice_input(const InferContext& context, size_t input, size_t count,
                                   const Element& fallback) {
  auto elements = context.contents(input);
  if (!elements) return InferContext::Elements(count, context.has(input) ? Element() : fallback);
  if (elements->size() != count)
    context.contradiction("starts, ends, axes and steps differ in length");
  return std::move(*elements);
}

void infer_slice(InferContext& context) {
  const auto& shape = context.shape(0);
  if (!shape) return context.set(0, context.type(0), std::nullopt);
  auto axes = context.integers(3);
  if (!axes && !context.has(3)) {  // the first ones, as many as there are starts
    const auto starts = context.contents(1);
    const auto& length = context.shape(1);
    const bool counted = length && length->size() == 1 && (*length)[0].known();
    if (starts || counted) {
      const int64_t count = starts ? static_cast<int64_t>(starts->size()) : (*length)[0].value;
      if (count > static_cast<int64_t>(shape->size()))
        context.contradiction("{} starts for {}", count, to_string(*shape));
      axes.emplace(count);
      std::iota(axes->begin(), axes->end(), 0);
    }
  }
  if (!axes) return context.set(0, context.type(0), Shape(shape->size()));
  const auto rank = static_cast<int64_t>(shape->size());
  marked_axes(context, *axes, rank);
  const auto starts = slice_input(context, 1, axes->size(), {}),
             ends = slice_input(context, 2, axes->size(), {}),
             steps = slice_input(context, 4, axes->size(), {1, ""});
  Shape out = *shape;
  for (size_t i = 0; i < axes->size(); ++i) {
    const int64_t axis = normalised_axis(context, (*axes)[i], rank);
    if (steps[i].number == 0) context.contradiction("step 0 on axis {}", axis);
    out[axis] = sliced((*shape)[axis], starts[i], ends[i], steps[i]);
    if (rank == 1) slice_contents(context, starts[i], ends[i], steps[i]);
  }
  context.set(0, context.type(0), std::move(out));
}

void infer_split(InferContext& context) {
  const auto& shape = context.shape(0);
  const auto parts = static_cast<int64_t>(context.output_count());
  if (context.node().integer("num_outputs", parts) != parts)
    context.contradiction("num_outputs is {}, the node has {}",
                          context.node().integer("num_outputs", parts), parts);
  if (!shape) {
    for (int64_t i = 0; i < parts; ++i) context.set(i, context.type(0), std::nullopt);
    return;
  }
  const int64_t axis = normalised_axis(context, context.node().integer("axis", 0),
                                       static_cast<int64_t>(shape->size()));
  const Dim& dim = (*shape)[axis];
  const auto sizes = context.integers(1);
  if (sizes && static_cast<int64_t>(sizes->size()) != parts) {
    context.contradiction("{} split sizes for {} outputs", sizes->size(), parts);
  }
  const auto elements = shape->size() == 1 ? context.contents(0) : std::nullopt;
  int64_t sum = 0;
  for (int64_t i = 0; i < parts; ++i) {
    Shape out = *shape;
    int64_t begin = sum;
    if (sizes) {
      if ((*sizes)[i] < 0) context.contradiction("split size {} is negative", (*sizes)[i]);
      if (__builtin_add_overflow(sum, (*sizes)[i], &sum))
        context.contradiction("split sizes overflow");
      out[axis] = (*sizes)[i];
    } else if (context.has(1) || !dim.known()) {
      out[axis] = Dim();
    } else {  // equal parts, the last one smaller when they do not divide
      const int64_t part = (dim.value + parts - 1) / parts;
      begin = std::min(i * part, dim.value);
      out[axis] = std::min(part, dim.value - begin);
    }
    const int64_t size = out[axis].value;
    if (elements && size >= 0 && begin + size <= static_cast<int64_t>(elements->size())) {
      const auto first = elements->begin() + begin;
      context.set_contents(i, InferContext::Elements(first, first + size));
    }
    context.set(i, context.type(0), std::move(out));
  }
  if (sizes && dim.known() && sum != dim.value) {
    context.contradiction("split sizes add up to {}, axis {} of {} does not", sum, axis,
                          to_string(*shape));
  }
}

constexpr OperatorRule kRules[] = {
    {"Transpose", 1, 1, 1, 1, infer_transpose}, {"Unsqueeze", 2, 2, 1, 1, infer_unsqueeze},
    {"Squeeze", 1, 2, 1, 1, infer_squeeze},     {"Reshape", 2, 2, 1, 1, infer_reshape},
    {"Flatten", 1, 1, 1, 1, infer_flatten},     {"Concat", 1, kManyInputs, 1, 1, infer_concat},
    {"Slice", 3, 5, 1, 1, infer_slice},         {"Split", 1, 2, 1, kManyInputs, infer_split},
};

}  // namespace

std::span<const OperatorRule> movement_rules() { return kRules; }

}  // namespace packlight::graph

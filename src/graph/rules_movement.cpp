#include <algorithm>

#include "graph/operator_rules.h"
#include "graph/slice.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

constexpr int64_t kMaxRank = 64;  // LibTorch's own bound; a shape of more entries is nonsense

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

// Elements of a small integer vector pass through; a rank-0 value is a vector of one.
void pass_contents(InferContext& context) {
  if (auto elements = context.contents(0)) context.set_contents(0, std::move(*elements));
}

void gather_contents(InferContext& context) {
  const auto elements = context.contents(0);
  const auto indices = context.integers(1);
  if (!elements || !indices || context.node().integer("axis", 0) != 0) return;
  InferContext::Elements out;
  const auto size = static_cast<int64_t>(elements->size());
  for (const int64_t index : *indices) {
    if (index < -size || index >= size)
      context.contradiction("index {} is outside the {} elements", index, size);
    out.push_back((*elements)[index < 0 ? index + size : index]);
  }
  context.set_contents(0, std::move(out));
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
    if (!shape || shape->size() != 1 || !(*shape)[0].known() || (*shape)[0].value > kMaxRank) return;
    out.resize(out.size() + (*shape)[0].value);
  }
  context.set_contents(0, std::move(out));
}

void slice_contents(InferContext& context) {
  const auto elements = context.contents(0);
  const auto starts = context.integers(1), ends = context.integers(2), steps = context.integers(4);
  if (!elements || !starts || !ends || (context.has(4) && !steps) || starts->size() != 1 ||
      ends->size() != 1)
    return;
  const SliceRange range = slice_range(static_cast<int64_t>(elements->size()), (*starts)[0],
                                       (*ends)[0], steps && !steps->empty() ? (*steps)[0] : 1);
  InferContext::Elements out;
  for (int64_t i = 0; i < range.length; ++i)
    out.push_back((*elements)[range.start + i * range.step]);
  context.set_contents(0, std::move(out));
}

void infer_gather(InferContext& context) {
  gather_contents(context);
  const auto &data = context.shape(0), &indices = context.shape(1);
  if (!data || !indices) return context.set(0, context.type(0), std::nullopt);
  const auto axis = normalised_axis(context, context.node().integer("axis", 0),
                                    static_cast<int64_t>(data->size()));
  Shape out(data->begin(), data->begin() + axis);
  out.insert(out.end(), indices->begin(), indices->end());
  out.insert(out.end(), data->begin() + axis + 1, data->end());
  context.set(0, context.type(0), std::move(out));
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
  if (axes && axes->size() == 1) pass_contents(context);
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
                     const std::vector<int64_t>& wanted, int64_t& inferred) {
  const bool allow_zero = context.node().integer("allowzero", 0) != 0;
  Shape out;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const int64_t size = wanted[i];
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
  return out;
}

// Product of dimensions; nothing when one is no number or it overflows.
std::optional<int64_t> product(const std::vector<Dim>& dims) {
  int64_t result = 1;
  for (const Dim& dim : dims) {
    if (!dim.known() || __builtin_mul_overflow(result, dim.value, &result)) return std::nullopt;
  }
  return result;
}

// Fills out[inferred] (if >= 0) and checks that element counts agree. Equal dimensions on both
// sides cancel, so symbols carry through; what is left must be numbers to say more.
void balance(const InferContext& context, const Shape& shape, Shape& out, int64_t inferred) {
  std::vector<Dim> left = shape, right;
  for (size_t i = 0; i < out.size(); ++i) {
    if (static_cast<int64_t>(i) == inferred) continue;
    const bool comparable = out[i].known() || !out[i].symbol.empty();
    const auto same = comparable ? std::find(left.begin(), left.end(), out[i]) : left.end();
    if (same != left.end()) {
      left.erase(same);
    } else {
      right.push_back(out[i]);
    }
  }
  const auto have = product(left), need = product(right);
  if (inferred >= 0 && right.empty() && left.size() == 1) {
    out[inferred] = left[0];
  } else if (have && need) {
    const bool fits = inferred < 0 ? *have == *need : *need == 0 || *have % *need == 0;
    if (!fits) context.contradiction("{} does not reshape to {}", to_string(shape), to_string(out));
    if (inferred >= 0 && *need > 0) out[inferred] = *have / *need;
  }
}

void infer_reshape(InferContext& context) {
  const auto& shape = context.shape(0);
  pass_contents(context);
  if (const auto wanted = context.integers(1)) {
    int64_t inferred = -1;
    Shape out = reshape_target(context, shape, *wanted, inferred);
    if (shape) balance(context, *shape, out, inferred);
    return context.set(0, context.type(0), std::move(out));
  }
  if (const auto partial = context.contents(1)) {  // some dimensions are symbols
    Shape out;
    for (size_t i = 0; i < partial->size(); ++i) {
      const auto& element = (*partial)[i];
      const bool copied = element.number == 0 && context.node().integer("allowzero", 0) == 0;
      if (copied && shape && i < shape->size()) {
        out.push_back((*shape)[i]);
      } else {
        out.push_back(copied || element.number == -1 ? Dim() : element.dim());
      }
    }
    return context.set(0, context.type(0), std::move(out));
  }
  const auto& target = context.shape(1);  // its length is at least the rank
  if (target && target->size() == 1 && (*target)[0].known() && (*target)[0].value <= kMaxRank) {
    return context.set(0, context.type(0), Shape((*target)[0].value));
  }
  context.set(0, context.type(0), std::nullopt);
}

void infer_concat(InferContext& context) {
  concat_contents(context);
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

void infer_slice(InferContext& context) {
  slice_contents(context);
  const auto& shape = context.shape(0);
  if (!shape) return context.set(0, context.type(0), std::nullopt);
  const auto starts = context.integers(1), ends = context.integers(2), steps = context.integers(4);
  auto axes = context.integers(3);
  const bool all_known = starts && ends && (axes || !context.has(3)) && (steps || !context.has(4));
  if (!all_known) return context.set(0, context.type(0), Shape(shape->size()));
  if (!axes) {
    axes.emplace();
    for (size_t i = 0; i < starts->size(); ++i) axes->push_back(static_cast<int64_t>(i));
  }
  if (starts->size() != ends->size() || axes->size() != starts->size() ||
      (steps && steps->size() != starts->size())) {
    context.contradiction("starts, ends, axes and steps differ in length");
  }
  Shape out = *shape;
  for (size_t i = 0; i < starts->size(); ++i) {
    const int64_t axis = normalised_axis(context, (*axes)[i], static_cast<int64_t>(shape->size()));
    const int64_t step = steps ? (*steps)[i] : 1;
    if (step == 0) context.contradiction("step 0 on axis {}", axis);
    const Dim& dim = (*shape)[axis];
    out[axis] =
        dim.known() ? Dim(slice_range(dim.value, (*starts)[i], (*ends)[i], step).length) : Dim();
  }
  context.set(0, context.type(0), std::move(out));
}

void infer_split(InferContext& context) {
  const auto& shape = context.shape(0);
  const auto parts = static_cast<int64_t>(context.output_count());
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
  int64_t sum = 0;
  for (int64_t i = 0; i < parts; ++i) {
    Shape out = *shape;
    if (sizes) {
      if ((*sizes)[i] < 0) context.contradiction("split size {} is negative", (*sizes)[i]);
      if (__builtin_add_overflow(sum, (*sizes)[i], &sum))
        context.contradiction("split sizes overflow");
      out[axis] = (*sizes)[i];
    } else if (context.has(1) || !dim.known()) {
      out[axis] = Dim();
    } else {  // equal parts, the last one smaller when they do not divide
      const int64_t part = (dim.value + parts - 1) / parts;
      out[axis] = std::clamp<int64_t>(dim.value - i * part, 0, part);
    }
    context.set(i, context.type(0), std::move(out));
  }
  if (sizes && dim.known() && sum != dim.value) {
    context.contradiction("split sizes add up to {}, axis {} of {} does not", sum, axis,
                          to_string(*shape));
  }
}

constexpr OperatorRule kRules[] = {
    {"Transpose", 1, 1, 1, 1, infer_transpose}, {"Gather", 2, 2, 1, 1, infer_gather},
    {"Unsqueeze", 2, 2, 1, 1, infer_unsqueeze}, {"Squeeze", 1, 2, 1, 1, infer_squeeze},
    {"Reshape", 2, 2, 1, 1, infer_reshape},     {"Concat", 1, kManyInputs, 1, 1, infer_concat},
    {"Slice", 3, 5, 1, 1, infer_slice},         {"Split", 1, 2, 1, kManyInputs, infer_split},
};

}  // namespace

std::span<const OperatorRule> movement_rules() { return kRules; }

}  // namespace packlight::graph

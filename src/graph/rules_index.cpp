// Operators that take or put elements by index.
#include <algorithm>
#include <string_view>

#include "graph/operator_rules.h"

namespace packlight::graph {
namespace {

void gather_contents(InferContext& context, int64_t axis) {
  const auto elements = context.contents(0);
  const auto indices = context.integers(1);
  if (!elements || !indices || axis != 0) return;
  InferContext::Elements out;
  const auto size = static_cast<int64_t>(elements->size());
  for (const int64_t index : *indices) {
    if (index < -size || index >= size)
      context.contradiction("index {} is outside the {} elements", index, size);
    out.push_back((*elements)[index < 0 ? index + size : index]);
  }
  context.set_contents(0, std::move(out));
}

void infer_gather(InferContext& context) {
  require_integers(context, 1);
  const auto &data = context.shape(0), &indices = context.shape(1);
  if (!data || !indices) return context.set(0, context.type(0), std::nullopt);
  const auto axis = normalised_axis(context, context.node().integer("axis", 0),
                                    static_cast<int64_t>(data->size()));
  if (data->size() == 1) gather_contents(context, axis);
  Shape out(data->begin(), data->begin() + axis);
  out.insert(out.end(), indices->begin(), indices->end());
  out.insert(out.end(), data->begin() + axis + 1, data->end());
  context.set(0, context.type(0), std::move(out));
}

// Data and indices have one rank, in which the axis must be.
void check_elements(const InferContext& context) {
  require_integers(context, 1);
  const auto &data = context.shape(0), &indices = context.shape(1);
  if (data && indices && data->size() != indices->size())
    context.contradiction("ranks of {} and {} differ", to_string(*data), to_string(*indices));
  if (data)
    normalised_axis(context, context.node().integer("axis", 0), static_cast<int64_t>(data->size()));
}

void infer_gather_elements(InferContext& context) {
  check_elements(context);
  context.set(0, context.type(0), context.shape(1));
}

void check_reduction(const InferContext& context) {
  constexpr std::string_view kReductions[] = {"none", "add", "mul", "max", "min"};
  const std::string reduction = context.node().text("reduction", "none");
  if (std::find(std::begin(kReductions), std::end(kReductions), reduction) == std::end(kReductions))
    context.contradiction("reduction is '{}', not none, add, mul, max or min", reduction);
}

// Two lists of dimensions that must be the same.
void check_same(const InferContext& context, const Shape& got, const Shape& want,
                std::string_view what) {
  bool fits = got.size() == want.size();
  for (size_t i = 0; fits && i < got.size(); ++i) fits = compatible(got[i], want[i]);
  if (!fits) context.contradiction("{} is {}, not {}", what, to_string(got), to_string(want));
}

void infer_scatter_elements(InferContext& context) {
  check_elements(context);
  check_reduction(context);
  if (context.shape(1) && context.shape(2))
    check_same(context, *context.shape(2), *context.shape(1), "updates");
  context.set(0, same_type(context, 0, 2), context.shape(0));
}

// How many dimensions of the data, after `batch` of them, one index of the ND operators points
// into. Nothing when unknown.
std::optional<int64_t> index_length(const InferContext& context, int64_t batch) {
  require_integers(context, 1);
  const auto &data = context.shape(0), &indices = context.shape(1);
  if (indices && indices->empty()) context.contradiction("indices are a scalar");
  if (!data || !indices || !indices->back().known()) return std::nullopt;
  const int64_t length = indices->back().value;
  const auto rank = static_cast<int64_t>(data->size());
  if (length < 1 || length > rank - batch) {
    context.contradiction("indices {} point into {} dimensions, {} has {}", to_string(*indices),
                          length, to_string(*data), rank - batch);
  }
  return length;
}

void infer_gather_nd(InferContext& context) {
  const int64_t batch = context.node().integer("batch_dims", 0);
  const auto &data = context.shape(0), &indices = context.shape(1);
  for (size_t i = 0; i < 2; ++i) {
    const auto& shape = context.shape(i);
    if (batch < 0 || (shape && batch >= static_cast<int64_t>(shape->size())))
      context.contradiction("batch_dims {} does not fit input {}", batch, i);
  }
  const auto length = index_length(context, batch);
  if (!length) return context.set(0, context.type(0), std::nullopt);
  Shape out(indices->begin(), indices->end() - 1);
  for (int64_t i = 0; i < batch; ++i) {
    if (!compatible(out[i], (*data)[i])) {
      context.contradiction("batch dimensions of {} and {} differ", to_string(*data),
                            to_string(*indices));
    }
    out[i] = merged(out[i], (*data)[i]);
  }
  out.insert(out.end(), data->begin() + batch + *length, data->end());
  context.set(0, context.type(0), std::move(out));
}

void infer_scatter_nd(InferContext& context) {
  check_reduction(context);
  const auto length = index_length(context, 0);
  if (length && context.shape(2)) {
    const auto &data = *context.shape(0), &indices = *context.shape(1);
    Shape want(indices.begin(), indices.end() - 1);
    want.insert(want.end(), data.begin() + *length, data.end());
    check_same(context, *context.shape(2), want, "updates");
  }
  context.set(0, same_type(context, 0, 2), context.shape(0));
}

void infer_non_zero(InferContext& context) {
  const auto& shape = context.shape(0);
  const Dim rank = shape ? Dim(static_cast<int64_t>(shape->size())) : Dim();
  context.set(0, ElementType::kI64, Shape{rank, Dim()});
}

void infer_compress(InferContext& context) {
  const auto &shape = context.shape(0), &condition = context.shape(1);
  if (condition && condition->size() != 1)
    context.contradiction("the condition is {}, no vector", to_string(*condition));
  if (context.node().attributes.count("axis") == 0)
    return context.set(0, context.type(0), Shape(1));
  if (!shape) return context.set(0, context.type(0), std::nullopt);
  Shape out = *shape;
  const int64_t axis = normalised_axis(context, context.node().integer("axis", 0),
                                       static_cast<int64_t>(shape->size()));
  out[axis] = Dim();
  context.set(0, context.type(0), std::move(out));
}

void infer_non_max_suppression(InferContext& context) {
  const auto &boxes = context.shape(0), &scores = context.shape(1);
  if (boxes) check_same(context, *boxes, {Dim(), Dim(), 4}, "input 'boxes'");
  if (boxes && scores)
    check_same(context, *scores, {(*boxes)[0], Dim(), (*boxes)[1]}, "input 'scores'");
  context.set(0, ElementType::kI64, Shape{Dim(), 3});
}

void infer_reverse_sequence(InferContext& context) {
  const auto &shape = context.shape(0), &lengths = context.shape(1);
  require_integers(context, 1);
  if (lengths && lengths->size() != 1)
    context.contradiction("sequence_lens is {}, no vector", to_string(*lengths));
  if (shape) {
    const auto rank = static_cast<int64_t>(shape->size());
    const int64_t batch = normalised_axis(context, context.node().integer("batch_axis", 1), rank),
                  time = normalised_axis(context, context.node().integer("time_axis", 0), rank);
    if (batch == time) context.contradiction("batch_axis and time_axis are both {}", batch);
    if (lengths) check_same(context, *lengths, {(*shape)[batch]}, "sequence_lens");
  }
  context.set(0, context.type(0), shape);
}

constexpr OperatorRule kRules[] = {
    {"Gather", 2, 2, 1, 1, infer_gather},
    {"GatherElements", 2, 2, 1, 1, infer_gather_elements},
    {"GatherND", 2, 2, 1, 1, infer_gather_nd},
    {"ScatterElements", 3, 3, 1, 1, infer_scatter_elements},
    {"ScatterND", 3, 3, 1, 1, infer_scatter_nd},
    {"NonZero", 1, 1, 1, 1, infer_non_zero},
    {"Compress", 2, 2, 1, 1, infer_compress},
    {"NonMaxSuppression", 2, 5, 1, 1, infer_non_max_suppression},
    {"ReverseSequence", 2, 2, 1, 1, infer_reverse_sequence},
};

}  // namespace

std::span<const OperatorRule> index_rules() { return kRules; }

}  // namespace packlight::graph

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "exec/operators.h"
#include "graph/weight.h"
#include "operators/slice.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

Outputs shape(const Call& call) {
  const at::IntArrayRef sizes = call.inputs[0].sizes();
  const auto rank = static_cast<int64_t>(sizes.size());
  const operators::SliceRange range = operators::slice_range(rank, call.node.integer("start", 0),
                                                             call.node.integer("end", rank), 1);
  return {at::tensor(sizes.slice(range.start, range.length), at::kLong)};
}

Outputs size(const Call& call) { return {at::scalar_tensor(call.inputs[0].numel(), at::kLong)}; }

// Arithmetic is in F32 whatever float type a file names.
at::ScalarType arithmetic_type(at::ScalarType type) {
  return at::isFloatingType(type) ? at::kFloat : type;
}

Outputs constant_of_shape(const Call& call) {
  const std::vector<int64_t> sizes = integers(call.inputs[0]);
  element_count(sizes);
  const auto it = call.node.attributes.find("value");
  if (it == call.node.attributes.end()) return {at::zeros(sizes, at::kFloat)};
  const auto* value = std::get_if<at::Tensor>(&it->second);
  if (value == nullptr || !value->defined() || value->numel() != 1)
    fail(ErrorCode::kInvalidArgument, "attribute 'value' is no tensor of one element");
  return {at::full(sizes, value->item(), arithmetic_type(value->scalar_type()))};
}

// The elements of a Range; checked before anything of that size is made.
int64_t range_count(const at::Tensor& start, const at::Tensor& limit, const at::Tensor& delta) {
  if (at::isIntegralType(start.scalar_type(), false)) {
    const int64_t step = integer(delta, "delta");
    if (step == 0) fail(ErrorCode::kInvalidArgument, "delta is 0");
    return operators::range_length(integer(start, "start"), integer(limit, "limit"), step);
  }
  const double first = start.item<double>(), last = limit.item<double>(),
               step = delta.item<double>();
  const double count = std::ceil((last - first) / step);
  if (!std::isfinite(first) || !std::isfinite(last) || !std::isfinite(step) ||
      !std::isfinite(count) || count >= 0x1p62) {
    fail(ErrorCode::kInvalidArgument, "from {} to {} by {} is no range", first, last, step);
  }
  return std::max(static_cast<int64_t>(count), int64_t{0});
}

Outputs range(const Call& call) {
  const at::Tensor &start = call.inputs[0], &limit = call.inputs[1], &delta = call.inputs[2];
  for (const at::Tensor& bound : call.inputs) {
    if (bound.numel() != 1 || bound.scalar_type() != start.scalar_type())
      fail(ErrorCode::kInvalidArgument, "start, limit and delta are not single numbers of a type");
  }
  const int64_t count = range_count(start, limit, delta);
  element_count({count});
  const at::Tensor steps = at::arange(count, at::kLong).to(start.scalar_type());
  return {at::add(at::mul(steps, delta.reshape({})), start.reshape({}))};
}

// A view: the repeated dimensions have stride 0.
Outputs expand(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  std::vector<int64_t> sizes = integers(call.inputs[1]);
  const auto rank = static_cast<int64_t>(sizes.size());
  if (rank < x.dim()) sizes.insert(sizes.begin(), x.dim() - rank, 1);
  for (int64_t i = 1; i <= x.dim(); ++i) {  // broadcast both ways, from the last dimension on
    int64_t& size = sizes[sizes.size() - i];
    if (size == 1) size = x.size(-i);
  }
  element_count(sizes);
  return {x.expand(sizes)};
}

Outputs tile(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  const std::vector<int64_t> repeats = integers(call.inputs[1]);
  if (static_cast<int64_t>(repeats.size()) != x.dim()) {
    fail(ErrorCode::kInvalidArgument, "{} repeats for a tensor of rank {}", repeats.size(),
         x.dim());
  }
  std::vector<int64_t> sizes = x.sizes().vec();
  element_count(repeats);
  sizes.insert(sizes.end(), repeats.begin(), repeats.end());
  element_count(sizes);  // the product of both is the output's
  return {x.repeat(repeats)};
}

Outputs eye_like(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  if (x.dim() != 2) fail(ErrorCode::kInvalidArgument, "a tensor of rank {} is no matrix", x.dim());
  const int64_t dtype = call.node.integer("dtype", 0);
  const at::ScalarType type =
      dtype == 0 ? x.scalar_type()
                 : arithmetic_type(graph::to_scalar_type(graph::from_onnx_type(dtype)));
  // Any diagonal outside the matrix is as good as the first one outside.
  const int64_t k = std::clamp(call.node.integer("k", 0), -x.size(0), x.size(1));
  const at::Tensor rows = at::arange(x.size(0), at::kLong).unsqueeze(1);
  return {at::eq(rows + k, at::arange(x.size(1), at::kLong)).to(type)};
}

// An index outside [-depth, depth) is off everywhere.
Outputs one_hot(const Call& call) {
  const at::Tensor& values = call.inputs[2];
  const int64_t depth = integer(call.inputs[1], "depth");
  const int64_t axis = normalised_axis(call.node.integer("axis", -1), call.inputs[0].dim() + 1);
  if (values.dim() != 1 || values.numel() != 2)
    fail(ErrorCode::kInvalidArgument, "values are not [off, on]");
  std::vector<int64_t> sizes = call.inputs[0].sizes().vec();
  sizes.insert(sizes.begin() + axis, depth);
  element_count(sizes);
  const at::Tensor given = call.inputs[0].to(at::kLong);
  const at::Tensor indices = at::where(given < 0, given + depth, given).unsqueeze(axis);
  std::vector<int64_t> along(sizes.size(), 1);
  along[axis] = depth;
  const at::Tensor hot = at::eq(indices, at::arange(depth, at::kLong).view(along));
  return {at::where(hot, values.select(0, 1), values.select(0, 0))};
}

Outputs trilu(const Call& call) {
  const at::Tensor& x = call.inputs[0];
  if (x.dim() < 2)
    fail(ErrorCode::kInvalidArgument, "a tensor of rank {} has no diagonal", x.dim());
  const int64_t wanted = call.has(1) ? integer(call.inputs[1], "k") : 0;
  const int64_t k = std::clamp(wanted, -x.size(-2), x.size(-1));
  return {call.node.integer("upper", 1) != 0 ? at::triu(x, k) : at::tril(x, k)};
}

constexpr OperatorEntry kOperators[] = {
    {"Shape", shape},      {"Size", size},      {"ConstantOfShape", constant_of_shape},
    {"Range", range},      {"Expand", expand},  {"Tile", tile},
    {"EyeLike", eye_like}, {"OneHot", one_hot}, {"Trilu", trilu},
};

}  // namespace

std::span<const OperatorEntry> creation_operators() { return kOperators; }

}  // namespace packlight::exec

#include <ATen/ATen.h>

#include "base/fail.h"
#include "exec/quantized_parts.h"
#include "graph/conv_pads.h"

namespace packlight::exec {
namespace {

// An attribute with a number for each spatial dimension, all of `low` or more.
std::vector<int64_t> per_dimension(const graph::Node& node, const char* attribute, size_t count,
                                   int64_t fallback, int64_t low) {
  std::vector<int64_t> values = node.integers(attribute);
  if (values.empty()) values.assign(count, fallback);
  bool fits = values.size() == count;
  for (const int64_t value : values) fits = fits && value >= low;
  if (!fits) fail(ErrorCode::kInvalidArgument, "{} is [{}]", attribute, fmt::join(values, ", "));
  return values;
}

}  // namespace

at::Tensor along(const at::Tensor& parameter, const at::Tensor& x, int64_t dim) {
  if (parameter.numel() == 1) return parameter.reshape({});
  if (parameter.dim() != 1) return parameter;
  const int64_t at = normalised_axis(dim, x.dim());
  if (parameter.size(0) != x.size(at)) {
    fail(ErrorCode::kInvalidArgument, "{} scales or zero points for a dimension of {}",
         parameter.size(0), x.size(at));
  }
  std::vector<int64_t> shape(x.dim(), 1);
  shape[at] = parameter.size(0);
  return parameter.reshape(shape);
}

at::Tensor exact_convolution(const graph::Node& node, const at::Tensor& x, const at::Tensor& w) {
  if (x.dim() < 3 || w.dim() != x.dim())
    fail(ErrorCode::kInvalidArgument, "input and filter of ranks {} and {}", x.dim(), w.dim());
  const size_t count = x.dim() - 2;
  const auto strides = per_dimension(node, "strides", count, 1, 1);
  const auto dilations = per_dimension(node, "dilations", count, 1, 1);
  const auto pads = per_dimension(node, "pads", 2 * count, 0, 0);
  const int64_t group = node.integer("group", 1);
  if (group < 1) fail(ErrorCode::kInvalidArgument, "group is {}", group);
  std::vector<int64_t> edges;  // the last dimension first, before and after
  for (size_t i = count; i-- > 0;) {
    const auto dim = static_cast<int64_t>(i) + 2;
    const int64_t extent = (w.size(dim) - 1) * dilations[i] + 1;
    const auto [before, after] =
        graph::conv_pads(node.text("auto_pad", "NOTSET"), {pads[i], pads[i + count]}, x.size(dim),
                         extent, strides[i]);
    edges.insert(edges.end(), {before, after});
  }
  const std::vector<int64_t> none(count, 0);
  return at::convolution(at::constant_pad_nd(x, edges, 0), w, {}, strides, none, dilations,
                         /*transposed=*/false, none, group);
}

}  // namespace packlight::exec

#include <ATen/ATen.h>

#include "base/fail.h"
#include "exec/quantized_parts.h"

namespace packlight::exec {
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
  return convolution(x, w, {}, kernel_window(node, x, w), node.integer("group", 1));
}

}  // namespace packlight::exec

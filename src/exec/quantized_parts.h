#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "exec/operators.h"

namespace packlight::exec {

// Parts of the quantized operators' family.

// A vector of scales or zero points as what broadcasts along dimension `dim` of x; a single one,
// and a tensor of x's rank, as it is. Errors: InvalidArgument when the length is not that
// dimension's.
at::Tensor along(const at::Tensor& parameter, const at::Tensor& x, int64_t dim);

// The convolution of x [batch, channels, ...] with w [maps, channels / group, ...], both F64, as
// the attributes of ConvInteger and QLinearConv say; padding is with zeros. In F64 because the sums
// are then exact in any order and because LibTorch's F32 convolutions may take algorithms
// (Winograd, in NNPACK and oneDNN) that do not even multiply integers exactly.
at::Tensor exact_convolution(const graph::Node& node, const at::Tensor& x, const at::Tensor& w);

// com.microsoft's MatMulNBits.
std::vector<at::Tensor> matmul_nbits(const Call& call);

}  // namespace packlight::exec

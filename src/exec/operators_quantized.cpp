#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/fail.h"
#include "exec/operators.h"
#include "exec/quantized_parts.h"
#include "graph/weight.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

struct Range {
  double low, high;
};
Range code_range(at::ScalarType type) {
  if (type == at::kByte) return {0, 255};
  if (type == at::kChar) return {-128, 127};
  if (type == at::kShort) return {-32768, 32767};
  fail(ErrorCode::kUnsupported, "codes of type {}", c10::toString(type));
}

// Codes in F32 (or F64) -> their integers, saturated. NaN has no code; what the processor would
// make of it differs from one to the next.
at::Tensor saturate(const at::Tensor& codes, at::ScalarType type, const Range& range) {
  return at::nan_to_num(at::clamp(codes, range.low, range.high), 0.0).to(type);
}

at::Tensor saturate(const at::Tensor& codes, at::ScalarType type) {
  return saturate(codes, type, code_range(type));
}

// Scales or zero points in F32, spread so that they broadcast to x: one for all, one along `axis`,
// or one for each block of `block_size` along it.
at::Tensor spread(const at::Tensor& parameter, const at::Tensor& x, const graph::Node& node) {
  const at::Tensor p = parameter.to(at::kFloat);
  if (p.numel() == 1 && p.dim() <= 1) return p.reshape({});
  const int64_t axis = normalised_axis(node.integer("axis", 1), x.dim()), size = x.size(axis);
  const int64_t block = node.integer("block_size", 0);
  std::vector<int64_t> wanted{size};
  if (block > 0) {
    wanted = x.sizes().vec();
    wanted[axis] = size / block + (size % block != 0);
  }
  if (p.sizes() != at::IntArrayRef(wanted)) {
    fail(ErrorCode::kInvalidArgument, "scale or zero point {} should be {}",
         fmt::join(p.sizes().begin(), p.sizes().end(), "x"), fmt::join(wanted, "x"));
  }
  if (block > 0) return at::repeat_interleave(p, std::min(block, size), axis).narrow(axis, 0, size);
  std::vector<int64_t> shape(x.dim(), 1);
  shape[axis] = size;
  return p.reshape(shape);
}

// With autograd the codes stay F32, so that a gradient goes on through them: rounding passes it
// straight through, saturation gives zero. Followed by DequantizeLinear this is fake_quantize().
// Attributes low_code and high_code (ours, in graphs that are being trained): a narrower range than
// the type's.
Outputs quantize(const Call& call) {
  const at::Tensor x = call.inputs[0].to(at::kFloat);
  const int64_t wanted = call.node.integer("output_dtype", 0);
  at::ScalarType type =
      wanted == 0 ? at::kByte : graph::to_scalar_type(graph::from_onnx_type(wanted));
  if (call.has(2)) type = call.inputs[2].scalar_type();
  const at::Tensor exact = x / spread(call.inputs[1], x, call.node);
  const bool with_gradient = c10::GradMode::is_enabled() && exact.requires_grad();
  at::Tensor codes = at::round(exact);
  if (with_gradient) codes = exact + (codes - exact).detach();
  if (call.has(2)) codes = codes + spread(call.inputs[2], x, call.node);
  Range range = code_range(type);
  range.low = std::max(range.low, call.node.number("low_code", range.low));
  range.high = std::min(range.high, call.node.number("high_code", range.high));
  if (!with_gradient) return {saturate(codes, type, range)};
  return {at::clamp(codes, range.low, range.high)};
}

Outputs dequantize(const Call& call) {
  at::Tensor codes = call.inputs[0].to(at::kFloat);
  if (call.has(2)) codes = codes - spread(call.inputs[2], codes, call.node);
  return {codes * spread(call.inputs[1], codes, call.node)};
}

Outputs dynamic_quantize(const Call& call) {
  const at::Tensor x = call.inputs[0].detach().to(at::kFloat);
  const Range range = code_range(at::kByte);
  float low = 0, high = 0;  // the range always holds zero
  if (x.numel() > 0) {
    low = std::min(0.f, x.min().item<float>());
    high = std::max(0.f, x.max().item<float>());
  }
  const float scale = (high == low ? 1.f : high - low) / static_cast<float>(range.high);
  const at::Tensor zero = at::round(at::clamp(at::scalar_tensor(-low / scale), 0, range.high));
  return {saturate(at::round(x / scale) + zero, at::kByte), at::scalar_tensor(scale),
          saturate(zero, at::kByte)};
}

// The type in which a sum of `terms` products of two differences of 8-bit codes (each at most 255)
// is exact, whatever the order of the additions: F32 up to 2^24, F64 up to 2^53, which is past any
// tensor.
at::ScalarType exact_type(int64_t terms) {
  return terms <= (int64_t{1} << 24) / (255 * 255) ? at::kFloat : at::kDouble;
}

// Codes less their zero point. A vector of zero points goes along dimension `dim` of the codes.
at::Tensor centred(const at::Tensor& codes, const at::Tensor& zero, int64_t dim,
                   at::ScalarType type) {
  const at::Tensor wide = codes.to(type);
  return zero.defined() ? wide - along(zero.to(type), codes, dim) : wide;
}

at::Tensor optional_input(const Call& call, size_t input) {
  return call.has(input) ? call.inputs[input] : at::Tensor();
}

// Zero points of a go with its rows, those of b with its columns.
at::Tensor integer_product(const at::Tensor& a, const at::Tensor& a_zero, const at::Tensor& b,
                           const at::Tensor& b_zero) {
  if (a.dim() == 0 || b.dim() == 0) fail(ErrorCode::kInvalidArgument, "a factor is a scalar");
  const at::ScalarType type = exact_type(a.size(-1));
  return at::matmul(centred(a, a_zero, -2, type), centred(b, b_zero, -1, type));
}

// Sums beyond 32 bits wrap, as the specification allows.
at::Tensor as_int32(const at::Tensor& sums) { return sums.to(at::kLong).to(at::kInt); }

Outputs matmul_integer(const Call& call) {
  return {as_int32(integer_product(call.inputs[0], optional_input(call, 2), call.inputs[1],
                                   optional_input(call, 3)))};
}

Outputs conv_integer(const Call& call) {
  return {as_int32(
      exact_convolution(call.node, centred(call.inputs[0], optional_input(call, 2), 1, at::kDouble),
                        centred(call.inputs[1], optional_input(call, 3), 0, at::kDouble)))};
}

// Integer sums of scale `factor` -> codes of y. In F32, as ONNX Runtime requantizes.
at::Tensor requantize(const at::Tensor& sums, const at::Tensor& factor, const at::Tensor& y_zero) {
  const at::Tensor codes = at::round(sums.to(at::kFloat) * factor);
  return saturate(codes + y_zero.to(at::kFloat), y_zero.scalar_type());
}

Outputs qlinear_matmul(const Call& call) {
  const auto& in = call.inputs;
  const at::Tensor sums = integer_product(in[0], in[2], in[3], in[5]);
  const at::Tensor factor =
      along(in[1], sums, -2) * along(in[4], sums, -1) / along(in[6], sums, -2);
  return {requantize(sums, factor, along(in[7], sums, -2))};
}

Outputs qlinear_conv(const Call& call) {
  const auto& in = call.inputs;
  at::Tensor sums = exact_convolution(call.node, centred(in[0], in[2], 1, at::kDouble),
                                      centred(in[3], in[5], 0, at::kDouble));
  if (call.has(8)) sums = sums + along(in[8].to(at::kDouble), sums, 1);
  const at::Tensor factor = in[1].reshape({}) * along(in[4], sums, 1) / in[6].reshape({});
  return {requantize(sums, factor, in[7].reshape({}))};
}

constexpr OperatorEntry kOperators[] = {
    {"QuantizeLinear", quantize},
    {"DequantizeLinear", dequantize},
    {"DynamicQuantizeLinear", dynamic_quantize},
    {"MatMulInteger", matmul_integer},
    {"ConvInteger", conv_integer},
    {"QLinearMatMul", qlinear_matmul},
    {"QLinearConv", qlinear_conv},
    {"MatMulNBits", matmul_nbits, "com.microsoft"},
};

}  // namespace

std::span<const OperatorEntry> quantized_operators() { return kOperators; }

}  // namespace packlight::exec

#include <ATen/ATen.h>

#include <cmath>

#include "base/fail.h"
#include "exec/operators.h"
#include "operators/einsum.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

Outputs matmul(const Call& call) { return {at::matmul(call.inputs[0], call.inputs[1])}; }

// A factor that integers can be multiplied by.
at::Scalar factor_for(const at::Tensor& x, double factor, const char* attribute) {
  if (at::isFloatingType(x.scalar_type())) return factor;
  if (factor != std::nearbyint(factor) || std::abs(factor) > 0x1p53)
    fail(ErrorCode::kInvalidArgument, "{} {} of integer matrices", attribute, factor);
  return static_cast<int64_t>(factor);
}

Outputs gemm(const Call& call) {
  for (int i = 0; i < 2; ++i) {
    if (call.inputs[i].dim() != 2)
      fail(ErrorCode::kInvalidArgument, "a factor of rank {}, not 2", call.inputs[i].dim());
  }
  const at::Scalar alpha = factor_for(call.inputs[0], call.node.number("alpha", 1), "alpha"),
                   beta = factor_for(call.inputs[0], call.node.number("beta", 1), "beta");
  const at::Tensor a = call.node.integer("transA", 0) != 0 ? call.inputs[0].t() : call.inputs[0];
  const at::Tensor b = call.node.integer("transB", 0) != 0 ? call.inputs[1].t() : call.inputs[1];
  if (call.has(2)) return {at::addmm(call.inputs[2], a, b, beta, alpha)};
  const at::Tensor product = at::mm(a, b);
  return {alpha.toDouble() == 1 ? product : product * alpha};
}

Outputs einsum(const Call& call) {
  const auto equation = operators::parse_einsum(call.node.text("equation", ""), call.inputs.size());
  return {at::einsum(equation.to_string(), at::TensorList(call.inputs.data(), call.inputs.size()))};
}

constexpr OperatorEntry kOperators[] = {{"MatMul", matmul}, {"Gemm", gemm}, {"Einsum", einsum}};

}  // namespace

std::span<const OperatorEntry> matrix_operators() { return kOperators; }

}  // namespace packlight::exec

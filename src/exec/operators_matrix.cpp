#include <ATen/ATen.h>

#include "exec/operators.h"

namespace packlight::exec {
namespace {

using Outputs = std::vector<at::Tensor>;

Outputs matmul(const Call& call) { return {at::matmul(call.inputs[0], call.inputs[1])}; }

Outputs gemm(const Call& call) {
  const double alpha = call.node.number("alpha", 1), beta = call.node.number("beta", 1);
  const at::Tensor a = call.node.integer("transA", 0) != 0 ? call.inputs[0].t() : call.inputs[0];
  const at::Tensor b = call.node.integer("transB", 0) != 0 ? call.inputs[1].t() : call.inputs[1];
  if (call.has(2)) return {at::addmm(call.inputs[2], a, b, beta, alpha)};
  const at::Tensor product = at::mm(a, b);
  return {alpha == 1 ? product : product * alpha};
}

constexpr OperatorEntry kOperators[] = {{"MatMul", matmul}, {"Gemm", gemm}};

}  // namespace

std::span<const OperatorEntry> matrix_operators() { return kOperators; }

}  // namespace packlight::exec

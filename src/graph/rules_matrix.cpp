#include "graph/operator_rules.h"

namespace packlight::graph {
namespace {

// [..., m, k] x [..., k, n] -> [..., m, n]; a rank-1 factor loses its dimension (numpy.matmul).
void infer_matmul(InferContext& context) {
  const auto &a = context.shape(0), &b = context.shape(1);
  if (!a || !b) return context.set(0, context.type(0), std::nullopt);
  if (a->empty() || b->empty()) context.contradiction("a factor is a scalar");
  Shape left = *a, right = *b;
  if (left.size() == 1) left.insert(left.begin(), Dim(1));
  if (right.size() == 1) right.push_back(Dim(1));
  if (!compatible(left.back(), right[right.size() - 2])) {
    context.contradiction("shapes {} and {}: inner dimensions differ", to_string(*a),
                          to_string(*b));
  }
  const Shape left_batch(left.begin(), left.end() - 2), right_batch(right.begin(), right.end() - 2);
  Shape out = *broadcast(context, left_batch, right_batch);
  if (a->size() > 1) out.push_back(left[left.size() - 2]);
  if (b->size() > 1) out.push_back(right.back());
  context.set(0, context.type(0), std::move(out));
}

void infer_gemm(InferContext& context) {
  const auto &a = context.shape(0), &b = context.shape(1);
  if (!a || !b) return context.set(0, context.type(0), std::nullopt);
  if (a->size() != 2 || b->size() != 2) {
    context.contradiction("factors {} and {} must have rank 2", to_string(*a), to_string(*b));
  }
  const bool trans_a = context.node().integer("transA", 0) != 0,
             trans_b = context.node().integer("transB", 0) != 0;
  const Dim inner_a = (*a)[trans_a ? 0 : 1], inner_b = (*b)[trans_b ? 1 : 0];
  if (!compatible(inner_a, inner_b)) {
    context.contradiction("shapes {} and {}: inner dimensions differ", to_string(*a),
                          to_string(*b));
  }
  Shape out{(*a)[trans_a ? 1 : 0], (*b)[trans_b ? 0 : 1]};
  if (const auto& c = context.shape(2)) {
    const Shape wide = *broadcast(context, out, *c);
    bool fits = wide.size() == 2;
    for (size_t i = 0; fits && i < 2; ++i) fits = compatible(wide[i], out[i]);
    if (!fits)
      context.contradiction("the addend {} does not broadcast to {}", to_string(*c),
                            to_string(out));
  }
  context.set(0, context.type(0), std::move(out));
}

constexpr OperatorRule kRules[] = {
    {"MatMul", 2, 2, 1, 1, infer_matmul},
    {"Gemm", 2, 3, 1, 1, infer_gemm},
};

}  // namespace

std::span<const OperatorRule> matrix_rules() { return kRules; }

}  // namespace packlight::graph

#include <map>

#include "graph/matmul_shape.h"
#include "graph/operator_rules.h"
#include "operators/einsum.h"

namespace packlight::graph {

std::optional<Shape> matmul_shape(const InferContext& context, size_t a_input, size_t b_input) {
  const auto &a = context.shape(a_input), &b = context.shape(b_input);
  if (!a || !b) return std::nullopt;
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
  return out;
}

namespace {

void infer_matmul(InferContext& context) {
  context.set(0, context.type(0), matmul_shape(context, 0, 1));
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

using operators::EinsumEquation;

EinsumEquation equation_of(const InferContext& context) {
  return context.checked([&] {
    return operators::parse_einsum(context.node().text("equation", ""), context.input_count());
  });
}

// Notes what one operand says of its letters' dimensions and of the ellipsis'.
void add_operand(const InferContext& context, const std::string& term, const Shape& shape,
                 std::map<char, Dim>& letters, std::optional<Shape>& ellipsis) {
  const bool has_ellipsis = term.find(EinsumEquation::kEllipsis) != std::string::npos;
  const size_t named = term.size() - (has_ellipsis ? 1 : 0);
  if (has_ellipsis ? shape.size() < named : shape.size() != named)
    context.contradiction("term '{}' does not fit {}", term, to_string(shape));
  size_t next = 0;
  for (const char c : term) {
    if (c == EinsumEquation::kEllipsis) {
      const auto begin = shape.begin() + static_cast<std::ptrdiff_t>(next);
      const Shape part(begin, begin + static_cast<std::ptrdiff_t>(shape.size() - named));
      ellipsis = ellipsis ? broadcast(context, *ellipsis, part) : part;
      next += part.size();
      continue;
    }
    const Dim& dim = shape[next++];
    const auto [it, is_new] = letters.emplace(c, dim);
    const auto both = is_new ? std::optional<Dim>(dim) : broadcast(it->second, dim);
    if (!both) {
      context.contradiction("'{}' stands for {} and, in {}, for {}", c, it->second.value,
                            to_string(shape), dim.value);
    }
    it->second = *both;
  }
}

void infer_einsum(InferContext& context) {
  const EinsumEquation equation = equation_of(context);
  std::map<char, Dim> letters;
  std::optional<Shape> ellipsis;
  bool all_known = true;
  for (size_t i = 0; i < context.input_count(); ++i) {
    const auto& shape = context.shape(i);
    const bool matters = equation.terms[i].find(EinsumEquation::kEllipsis) != std::string::npos;
    if (shape) {
      add_operand(context, equation.terms[i], *shape, letters, ellipsis);
    } else {
      all_known = all_known && !matters;
    }
  }
  Shape out;
  for (const char c : equation.output) {
    if (c != EinsumEquation::kEllipsis) {
      out.push_back(letters.count(c) != 0 ? letters[c] : Dim());
    } else if (all_known && ellipsis) {
      out.insert(out.end(), ellipsis->begin(), ellipsis->end());
    } else {
      return context.set(0, context.type(0), std::nullopt);
    }
  }
  context.set(0, context.type(0), std::move(out));
}

constexpr OperatorRule kRules[] = {
    {"MatMul", 2, 2, 1, 1, infer_matmul},
    {"Gemm", 2, 3, 1, 1, infer_gemm},
    {"Einsum", 1, kManyInputs, 1, 1, infer_einsum},
};

}  // namespace

std::span<const OperatorRule> matrix_rules() { return kRules; }

}  // namespace packlight::graph

#include "graph/simplify/known.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace packlight::graph {

const at::Tensor* dense_constant(const Graph& graph, ValueId value) {
  if (value == kNone) return nullptr;
  const auto& weight = graph.value(value).weight;
  return weight ? std::get_if<at::Tensor>(&*weight) : nullptr;
}

std::optional<double> scalar_constant(const Graph& graph, ValueId value) {
  const at::Tensor* tensor = dense_constant(graph, value);
  if (tensor == nullptr || tensor->numel() != 1 || tensor->dim() > 1) return std::nullopt;
  return tensor->item().toDouble();
}

bool near(double got, double want) {
  constexpr double kPrinted = 1e-6;  // seven digits, as constants of F32 are printed
  return std::abs(got - want) <= kPrinted * std::abs(want);
}

bool is_number(const Graph& graph, ValueId value, double number) {
  const auto got = scalar_constant(graph, value);
  return got && near(*got, number);
}

bool same(const Dim& a, const Dim& b) { return a == b && (a.known() || !a.symbol.empty()); }

bool same(const std::optional<Shape>& a, const std::optional<Shape>& b) {
  if (!a || !b || a->size() != b->size()) return false;
  for (size_t i = 0; i < a->size(); ++i) {
    if (!same((*a)[i], (*b)[i])) return false;
  }
  return true;
}

bool same_reshaped(const std::optional<Shape>& a, const std::optional<Shape>& b) {
  if (!a || !b || a->size() != b->size()) return false;
  int unknown = 0;
  // Nothing follows from equal counts of no elements.
  if (std::find(a->begin(), a->end(), Dim(0)) != a->end()) return same(a, b);
  for (size_t i = 0; i < a->size(); ++i) {
    if (same((*a)[i], (*b)[i])) continue;
    if ((*a)[i].known() && (*b)[i].known()) return false;
    ++unknown;
  }
  return unknown <= 1;
}

bool broadcasts_into(const std::optional<Shape>& small, const std::optional<Shape>& large) {
  if (!small || (!large && !small->empty())) return false;
  if (!large) return true;
  if (small->size() > large->size()) return false;
  for (size_t i = 0; i < small->size(); ++i) {
    const Dim& dim = (*small)[small->size() - 1 - i];
    if (dim != Dim(1) && !same(dim, (*large)[large->size() - 1 - i])) return false;
  }
  return true;
}

std::vector<int64_t> permutation(const Node& transpose, size_t rank) {
  std::vector<int64_t> perm = transpose.integers("perm");
  for (size_t i = rank; perm.size() < rank && i-- > 0;) perm.push_back(static_cast<int64_t>(i));
  return perm;
}

bool is_identity(const std::vector<int64_t>& perm) {
  for (size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<int64_t>(i)) return false;
  }
  return true;
}

}  // namespace packlight::graph

#pragma once

#include <string_view>

#include "graph/operator_rules.h"

namespace packlight::graph {

// Checks that input `input`, where its shape is known, is `wanted`. Errors: Corrupt naming both.
inline void expect_shape(const InferContext& context, size_t input, std::string_view name,
                         const Shape& wanted) {
  const auto& shape = context.shape(input);
  if (!shape) return;
  bool fits = shape->size() == wanted.size();
  for (size_t i = 0; fits && i < wanted.size(); ++i) fits = compatible((*shape)[i], wanted[i]);
  if (!fits)
    context.contradiction("{} {} should be {}", name, to_string(*shape), to_string(wanted));
}

// What inputs say of one dimension: merges `dim` of input `input` into `known`. Errors: Corrupt
// when the rank is not `rank` or the numbers differ.
inline void merge_dim(const InferContext& context, size_t input, std::string_view name, size_t rank,
                      size_t dim, Dim& known) {
  const auto& shape = context.shape(input);
  if (!shape) return;
  if (shape->size() != rank)
    context.contradiction("{} {} must have rank {}", name, to_string(*shape), rank);
  if (!compatible(known, (*shape)[dim])) {
    context.contradiction("dimension {} of {} {} should be {}", dim, name, to_string(*shape),
                          known.value);
  }
  known = merged(known, (*shape)[dim]);
}

// factor * dim where the number is known.
inline Dim times(int64_t factor, const Dim& dim) {
  int64_t product = 0;
  if (!dim.known() || __builtin_mul_overflow(factor, dim.value, &product)) return {};
  return product;
}

}  // namespace packlight::graph

#pragma once

#include <vector>

#include "runtime/network/operator.h"

namespace packlight::runtime {

inline constexpr int64_t kOutside = -1;

// Output element (i, j, ...) is the input's (sources[0][i], sources[1][j], ...), or `fill` (the
// bytes of one element; null: 0) where one of them is kOutside. sources has one list for each
// dimension, as long as the output is along it.
void copy_by_index(const RunCall& call, const Tensor& from,
                   const std::vector<std::vector<int64_t>>& sources, const std::byte* fill,
                   const Tensor& to);

}  // namespace packlight::runtime

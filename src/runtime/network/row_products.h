#pragma once

#include <algorithm>
#include <cstdint>

namespace packlight::runtime {

// Products of rows, for operators whose matrices are small or come with strides. Sums run in a
// fixed order, whatever the rows are next to and however work is split.

// out[m] = a . w[m] for four rows w that share the reads of a. The lanes let a compiler vectorise
// a sum whose order it must not change.
inline void four_dots(const float* a, const float* const (&w)[4], int64_t n, float (&out)[4]) {
  constexpr int kLanes = 8;
  float sums[4][kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int m = 0; m < 4; ++m) {
      for (int lane = 0; lane < kLanes; ++lane) sums[m][lane] += a[i + lane] * w[m][i + lane];
    }
  }
  for (int m = 0; m < 4; ++m) {
    float total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += sums[m][lane];
    for (int64_t k = i; k < n; ++k) total += a[k] * w[m][k];
    out[m] = total;
  }
}

// put(i, j, a_i . w_j) for i in [0, rows), j in [begin, end); a_of(i) and w_of(j) give the rows, of
// n elements.
template <class RowA, class RowW, class Put>
void row_products(int64_t rows, const RowA& a_of, int64_t begin, int64_t end, const RowW& w_of,
                  int64_t n, const Put& put) {
  for (int64_t j = begin; j < end; j += 4) {
    const int64_t count = std::min<int64_t>(4, end - j);
    const float* w[4];
    for (int64_t m = 0; m < 4; ++m) w[m] = w_of(j + std::min(m, count - 1));
    for (int64_t i = 0; i < rows; ++i) {
      float dots[4];
      four_dots(a_of(i), w, n, dots);
      for (int64_t m = 0; m < count; ++m) put(i, j + m, dots[m]);
    }
  }
}

}  // namespace packlight::runtime

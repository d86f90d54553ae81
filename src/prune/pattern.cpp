#include "prune/pattern.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace packlight::prune {
namespace {

// Marks as going the `count` lowest of `size` scores; of equal ones the first.
void drop_lowest(const float* scores, int64_t size, int64_t count, bool* keep) {
  std::fill_n(keep, size, true);
  if (count <= 0) return;
  std::vector<float> sorted(scores, scores + size);
  std::nth_element(sorted.begin(), sorted.begin() + (count - 1), sorted.end());
  const float threshold = sorted[count - 1];
  int64_t equal = count - std::count_if(scores, scores + size, [&](float s) { return s < threshold; });
  for (int64_t i = 0; i < size; ++i) {
    if (scores[i] < threshold) keep[i] = false;
    if (scores[i] == threshold && equal > 0) keep[i] = false, --equal;
  }
}

// In every `of` neighbours the `keep` highest stay; of equal ones the later.
void keep_in_groups(const float* scores, int64_t size, const Pattern& pattern, bool* keep) {
  std::vector<int64_t> order(pattern.of);
  for (int64_t first = 0; first < size; first += pattern.of) {
    std::iota(order.begin(), order.end(), first);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] < scores[b]; });
    for (int64_t i = 0; i < pattern.of; ++i) keep[order[i]] = i >= pattern.of - pattern.keep;
  }
}

}  // namespace

at::Tensor keep_mask(const at::Tensor& scores, const Pattern& pattern, double ratio, Scope scope) {
  const at::Tensor dense = scores.contiguous();
  const int64_t rows = dense.size(0), cols = dense.size(1);
  at::Tensor mask = at::empty({rows, cols}, at::kBool);
  const float* from = dense.data_ptr<float>();
  bool* to = mask.data_ptr<bool>();
  const auto total = static_cast<int64_t>(std::llround(ratio * static_cast<double>(rows * cols)));
  if (!pattern.is_structured() && scope == Scope::kMatrix) {
    drop_lowest(from, rows * cols, total, to);
    return mask;
  }
  at::parallel_for(0, rows, 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (pattern.is_structured()) {
        keep_in_groups(from + r * cols, cols, pattern, to + r * cols);
      } else {  // differences of a running share: they add up to the total
        drop_lowest(from + r * cols, cols, total * (r + 1) / rows - total * r / rows, to + r * cols);
      }
    }
  });
  return mask;
}

}  // namespace packlight::prune

#include "calib/range_observers.h"

#include <algorithm>

namespace packlight::calib {
namespace {

Range widened(const Range& range, const CodeGrid& grid) {
  const Range with_zero{std::min(range.low, 0.0), std::max(range.high, 0.0)};
  if (!grid.symmetric) return with_zero;
  return {-with_zero.largest(), with_zero.largest()};
}

}  // namespace

void MinMaxObserver::observe(const at::Tensor&, const Range& extremes) {
  seen_.low = std::min(seen_.low, extremes.low);
  seen_.high = std::max(seen_.high, extremes.high);
}

Range MinMaxObserver::range(const CodeGrid& grid) const { return widened(seen_, grid); }

void MovingAverageObserver::observe(const at::Tensor&, const Range& extremes) {
  ++batches_;
  // A plain mean at first: with momentum alone, the first batch would weigh most for long.
  const double weight = std::max(momentum_, 1 / static_cast<double>(batches_));
  average_.low += weight * (extremes.low - average_.low);
  average_.high += weight * (extremes.high - average_.high);
}

Range MovingAverageObserver::range(const CodeGrid& grid) const { return widened(average_, grid); }

}  // namespace packlight::calib

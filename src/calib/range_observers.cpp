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
  if (first_) {
    average_ = extremes;
  } else {
    average_.low += momentum_ * (extremes.low - average_.low);
    average_.high += momentum_ * (extremes.high - average_.high);
  }
  first_ = false;
}

Range MovingAverageObserver::range(const CodeGrid& grid) const { return widened(average_, grid); }

}  // namespace packlight::calib

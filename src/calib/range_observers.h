#pragma once

#include "calib/observer.h"

namespace packlight::calib {

// Nothing that was seen saturates.
class MinMaxObserver : public Observer {
 public:
  void observe(const at::Tensor& x, const Range& extremes) override;
  Range range(const CodeGrid& grid) const override;

 private:
  Range seen_;
};

// low <- (1 - w) low + w min(batch), w = max(momentum, 1 / batches seen), high alike: the mean of
// the first 1 / momentum batches, then a moving average; single outliers weigh little. Depends on
// how samples were put into batches.
class MovingAverageObserver : public Observer {
 public:
  explicit MovingAverageObserver(double momentum) : momentum_(momentum) {}
  void observe(const at::Tensor& x, const Range& extremes) override;
  Range range(const CodeGrid& grid) const override;

 private:
  double momentum_;
  int64_t batches_ = 0;
  Range average_;
};

}  // namespace packlight::calib

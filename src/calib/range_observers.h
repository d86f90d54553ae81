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

// low <- (1 - momentum) low + momentum min(batch), high alike, from the first batch's on: single
// outliers weigh little. Depends on how samples were put into batches.
class MovingAverageObserver : public Observer {
 public:
  explicit MovingAverageObserver(double momentum) : momentum_(momentum) {}
  void observe(const at::Tensor& x, const Range& extremes) override;
  Range range(const CodeGrid& grid) const override;

 private:
  double momentum_;
  bool first_ = true;
  Range average_;
};

}  // namespace packlight::calib

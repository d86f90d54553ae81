#pragma once

#include "calib/histogram.h"
#include "calib/observer.h"

namespace packlight::calib {

// All of them: one Histogram each, ranges never wider than what was seen.
class HistogramObserver : public Observer {
 public:
  void observe(const at::Tensor& x, const Range& extremes) override { histogram_.add(x, extremes); }

 protected:
  Histogram histogram_;
};

// The least range outside which lie at most 1 - share of the values: of |x| on symmetric grids, at
// each end by itself on asymmetric ones. Exact to a bin.
class PercentileObserver : public HistogramObserver {
 public:
  explicit PercentileObserver(double share) : share_(share) {}  // in (0.5, 1]
  Range range(const CodeGrid& grid) const override;

 private:
  double share_;
};

// The range of least mean square error between a value and what its code stands for, among the
// extremes shrunk to 1 to 100 percent (each end by itself on asymmetric grids).
class MseObserver : public HistogramObserver {
 public:
  Range range(const CodeGrid& grid) const override;
};

// The range [-t, t] of least Kullback-Leibler divergence between the distribution of |x| with what
// is beyond t put at t, and the same in as many levels as codes (one sign's), over 2048 bins. On
// asymmetric grids it is cut to the extremes. Source: Migacz, "8-bit inference with TensorRT",
// GTC 2017.
class EntropyObserver : public HistogramObserver {
 public:
  Range range(const CodeGrid& grid) const override;
};

}  // namespace packlight::calib

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "calib/observer.h"

namespace packlight::calib {

// Counts of values in equal bins over [-limit, limit). The limit is the largest magnitude of the
// first batch that is not all zeros; values beyond it double it, and neighbouring bins merge, so at
// least half of the bins on the wider side are in use. Zeros are counted apart: they have no
// rounding error.
class Histogram {
 public:
  static constexpr int64_t kBins = 8192;  // 64 kB; 16 to 32 bins a step of 8-bit codes

  // x: F32, finite; extremes: its least and largest element.
  void add(const at::Tensor& x, const Range& extremes);

  bool empty() const { return limit_ == 0; }  // nothing but zeros so far
  double limit() const { return limit_; }
  double width() const { return 2 * limit_ / kBins; }
  // The middle of a bin.
  double centre(int64_t bin) const {
    return (static_cast<double>(bin) + 0.5 - kBins / 2) * width();
  }
  const std::vector<uint64_t>& bins() const { return bins_; }
  uint64_t zeros() const { return zeros_; }
  uint64_t count() const { return count_; }        // zeros included
  const Range& extremes() const { return seen_; }  // exact, with zero

 private:
  void grow(double largest);

  std::vector<uint64_t> bins_;
  double limit_ = 0;
  uint64_t zeros_ = 0, count_ = 0;
  Range seen_;
};

}  // namespace packlight::calib

#include "calib/histogram.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace packlight::calib {

void Histogram::grow(double largest) {
  if (limit_ == 0) {
    bins_.assign(kBins, 0);
    limit_ = largest;
  }
  while (largest > limit_) {
    std::vector<uint64_t> merged(kBins, 0);
    for (int64_t i = 0; i < kBins / 2; ++i) merged[kBins / 4 + i] = bins_[2 * i] + bins_[2 * i + 1];
    bins_ = std::move(merged);
    limit_ *= 2;
  }
}

void Histogram::add(const at::Tensor& x, const Range& extremes) {
  seen_.low = std::min(seen_.low, extremes.low);
  seen_.high = std::max(seen_.high, extremes.high);
  count_ += static_cast<uint64_t>(x.numel());
  const double largest = std::max(std::fabs(extremes.low), std::fabs(extremes.high));
  if (largest == 0) {
    zeros_ += static_cast<uint64_t>(x.numel());
    return;
  }
  grow(largest);
  const at::Tensor values = x.contiguous();
  const float* data = values.data_ptr<float>();
  const double per_unit = kBins / (2 * limit_);
  for (int64_t i = 0; i < values.numel(); ++i) {
    if (data[i] == 0) {
      ++zeros_;
      continue;
    }
    const double place = (static_cast<double>(data[i]) + limit_) * per_unit;
    ++bins_[std::clamp<int64_t>(static_cast<int64_t>(place), 0, kBins - 1)];
  }
}

}  // namespace packlight::calib

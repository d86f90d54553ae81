#include "eval/estimate.h"

#include <algorithm>
#include <cmath>

namespace packlight::eval {
namespace {

double error_of_mean(double variance, int64_t count) {
  return count > 1 ? std::sqrt(std::max(0.0, variance) / static_cast<double>(count - 1)) : 0;
}

Estimate mean(double sum, double sum_of_squares, int64_t count) {
  if (count == 0) return {};
  const double n = static_cast<double>(count), value = sum / n;
  return {value, error_of_mean(sum_of_squares / n - value * value, count)};
}

Estimate exponential(Estimate e) {
  const double value = std::exp(e.value);
  return {value, value * e.standard_error};
}

}  // namespace

Estimate PairedMoments::mean_x() const { return mean(sum_x_, sum_xx_, count_); }
Estimate PairedMoments::mean_y() const { return mean(sum_y_, sum_yy_, count_); }
Estimate PairedMoments::exp_mean_x() const { return exponential(mean_x()); }
Estimate PairedMoments::exp_mean_y() const { return exponential(mean_y()); }

Estimate PairedMoments::exp_difference() const {
  return exponential(mean(sum_x_ - sum_y_, sum_xx_ - 2 * sum_xy_ + sum_yy_, count_));
}

Estimate share(int64_t hits, int64_t count) {
  if (count == 0) return {};
  const double p = static_cast<double>(hits) / static_cast<double>(count);
  return {p, error_of_mean(p * (1 - p), count)};
}

}  // namespace packlight::eval

#include "calib/histogram_observers.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace packlight::calib {
namespace {

constexpr int64_t kHalf = Histogram::kBins / 2;
constexpr int kShrinkSteps = 100;
constexpr int64_t kEntropyBins = 2048;

// Counts by magnitude, zero first: of both signs, or of one.
enum class Sign { kBoth, kNegative, kPositive };
std::vector<double> by_magnitude(const Histogram& histogram, Sign sign) {
  std::vector<double> counts(kHalf, 0);
  for (int64_t i = 0; i < kHalf; ++i) {
    if (sign != Sign::kNegative) counts[i] += static_cast<double>(histogram.bins()[kHalf + i]);
    if (sign != Sign::kPositive) counts[i] += static_cast<double>(histogram.bins()[kHalf - 1 - i]);
  }
  return counts;
}

// The upper edge of the last bin that must be kept so that at most `outside` counts lie beyond.
double kept_magnitude(const std::vector<double>& counts, double width, double outside) {
  int64_t last = kHalf;
  for (double beyond = 0; last > 0; --last) {
    beyond += counts[last - 1];
    if (beyond > outside) break;
  }
  return static_cast<double>(last) * width;
}

Range cut(const Range& range, const Range& extremes, const CodeGrid& grid) {
  if (grid.symmetric) {
    const double t = std::min(range.largest(), extremes.largest());
    return {-t, t};
  }
  return {std::max(range.low, extremes.low), std::min(range.high, extremes.high)};
}

double squared_error(const Histogram& histogram, const Range& range, const CodeGrid& grid) {
  const CodeParameters p = code_parameters(range, grid);
  const double scale = p.scale, per_unit = 1 / scale;
  const auto zero = static_cast<double>(p.zero_point);
  const auto low = static_cast<double>(p.low_code), high = static_cast<double>(p.high_code);
  double sum = 0;
  for (int64_t i = 0; i < Histogram::kBins; ++i) {
    const uint64_t count = histogram.bins()[i];
    if (count == 0) continue;
    const double x = histogram.centre(i);
    const double code = std::clamp(std::nearbyint(x * per_unit) + zero, low, high);
    const double error = x - (code - zero) * scale;
    sum += static_cast<double>(count) * error * error;
  }
  return sum;
}

// The share of `of` (1 / steps to 1) at which `error` is least; ties go to the wider.
template <class Error>
double best_shrink(const Error& error) {
  double best = 1, least = std::numeric_limits<double>::infinity();
  for (int step = kShrinkSteps; step > 0; --step) {
    const double shrink = static_cast<double>(step) / kShrinkSteps;
    const double e = error(shrink);
    if (e < least) least = e, best = shrink;
  }
  return best;
}

// KL divergence of the first `kept` bins, the rest added to the last of them, from the same bins in
// `levels` steps. Infinite where the steps have nothing and the distribution has something.
double divergence(const std::vector<double>& counts, int64_t kept, int64_t levels) {
  double total = 0, beyond = 0, inside = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    total += counts[i];
    (static_cast<int64_t>(i) < kept ? inside : beyond) += counts[i];
  }
  if (inside == 0) return std::numeric_limits<double>::infinity();
  double sum = 0;
  for (int64_t level = 0; level < levels; ++level) {
    const int64_t begin = level * kept / levels, end = (level + 1) * kept / levels;
    double mass = 0;
    int64_t filled = 0;
    for (int64_t i = begin; i < end; ++i) {
      mass += counts[i];
      filled += counts[i] > 0;
    }
    for (int64_t i = begin; i < end; ++i) {
      const double p = (counts[i] + (i == kept - 1 ? beyond : 0)) / total;
      if (p == 0) continue;
      if (counts[i] == 0) return std::numeric_limits<double>::infinity();
      const double q = mass / static_cast<double>(filled) / inside;
      sum += p * std::log(p / q);
    }
  }
  return sum;
}

}  // namespace

Range PercentileObserver::range(const CodeGrid& grid) const {
  if (histogram_.empty()) return {};
  const double outside = (1 - share_) * static_cast<double>(histogram_.count());
  const auto kept = [&](Sign sign) {
    return kept_magnitude(by_magnitude(histogram_, sign), histogram_.width(), outside);
  };
  if (grid.symmetric) {
    const double t = kept(Sign::kBoth);
    return cut({-t, t}, histogram_.extremes(), grid);
  }
  return cut({-kept(Sign::kNegative), kept(Sign::kPositive)}, histogram_.extremes(), grid);
}

Range MseObserver::range(const CodeGrid& grid) const {
  if (histogram_.empty()) return {};
  Range range = histogram_.extremes();
  if (grid.symmetric) {
    const double t = range.largest();
    const double shrink = best_shrink([&](double s) {
      return squared_error(histogram_, {-s * t, s * t}, grid);
    });
    return {-shrink * t, shrink * t};
  }
  const Range widest = range;
  for (int sweep = 0; sweep < 2; ++sweep) {  // each end in turn, twice
    if (widest.high > 0)
      range.high = widest.high * best_shrink([&](double s) {
                     return squared_error(histogram_, {range.low, s * widest.high}, grid);
                   });
    if (widest.low < 0)
      range.low = widest.low * best_shrink([&](double s) {
                    return squared_error(histogram_, {s * widest.low, range.high}, grid);
                  });
  }
  return range;
}

Range EntropyObserver::range(const CodeGrid& grid) const {
  if (histogram_.empty()) return {};
  const Range& seen = histogram_.extremes();
  const bool one_sign = seen.low >= 0 || seen.high <= 0;
  const int64_t levels = int64_t{1} << (grid.symmetric || !one_sign ? grid.bits - 1 : grid.bits);
  const std::vector<double> fine = by_magnitude(histogram_, Sign::kBoth);
  std::vector<double> counts(kEntropyBins, 0);
  const int64_t merged = kHalf / kEntropyBins;
  for (int64_t i = 0; i < kHalf; ++i) counts[i / merged] += fine[i];
  const double width = histogram_.limit() / kEntropyBins;
  const auto used =
      std::min<int64_t>(kEntropyBins, static_cast<int64_t>(std::ceil(seen.largest() / width)));
  int64_t best = used;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t kept = used; kept >= std::min(levels, used); --kept) {
    const double d = divergence(counts, kept, levels);
    if (d < least) least = d, best = kept;
  }
  const double t = static_cast<double>(best) * width;
  return cut({-t, t}, seen, grid);
}

}  // namespace packlight::calib

#include "calib/observer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "calib/histogram_observers.h"
#include "calib/range_observers.h"

namespace packlight::calib {
namespace {

struct NamedKind {
  std::string_view name;
  ObserverKind kind;
};
constexpr std::array<NamedKind, 5> kKinds{{{"minmax", ObserverKind::kMinMax},
                                           {"moving", ObserverKind::kMovingAverage},
                                           {"percentile", ObserverKind::kPercentile},
                                           {"mse", ObserverKind::kMse},
                                           {"entropy", ObserverKind::kEntropy}}};

}  // namespace

CodeParameters code_parameters(const Range& range, const CodeGrid& grid) {
  if (grid.bits < 2 || grid.bits > 8)
    fail(ErrorCode::kInvalidArgument, "[calib] activations of {} bits; 2 to 8 are possible",
         grid.bits);
  CodeParameters p;
  const int64_t half = int64_t{1} << (grid.bits - 1);
  p.low_code = grid.symmetric ? -half : 0;
  p.high_code = grid.symmetric ? half - 1 : 2 * half - 1;
  const double low = std::min(range.low, 0.0), high = std::max(range.high, 0.0);
  const double span = grid.symmetric ? std::max(-low, high) : high - low;
  const auto scale = static_cast<float>(span / static_cast<double>(p.high_code));
  // Below it x / scale would overflow.
  p.scale = scale > std::numeric_limits<float>::min() ? scale : 1.0f;
  if (!grid.symmetric) {
    p.zero_point =
        std::clamp<int64_t>(static_cast<int64_t>(std::nearbyint(-low / p.scale)), 0, p.high_code);
  }
  return p;
}

ObserverKind parse_observer(std::string_view name) {
  for (const NamedKind& known : kKinds) {
    if (known.name == name) return known.kind;
  }
  fail(ErrorCode::kInvalidArgument,
       "[calib] observer '{}': it must be minmax, moving, percentile, mse or entropy", name);
}

std::string_view observer_name(ObserverKind kind) {
  return std::find_if(kKinds.begin(), kKinds.end(),
                      [&](const NamedKind& known) { return known.kind == kind; })
      ->name;
}

std::unique_ptr<Observer> make_observer(ObserverKind kind, const ObserverOptions& options) {
  if (!(options.momentum > 0 && options.momentum <= 1))
    fail(ErrorCode::kInvalidArgument, "[calib] momentum {}: it must be in (0, 1]",
         options.momentum);
  if (!(options.percentile > 50 && options.percentile <= 100))
    fail(ErrorCode::kInvalidArgument, "[calib] percentile {}: it must be in (50, 100]",
         options.percentile);
  switch (kind) {
    case ObserverKind::kMinMax:
      return std::make_unique<MinMaxObserver>();
    case ObserverKind::kMovingAverage:
      return std::make_unique<MovingAverageObserver>(options.momentum);
    case ObserverKind::kPercentile:
      return std::make_unique<PercentileObserver>(options.percentile / 100);
    case ObserverKind::kMse:
      return std::make_unique<MseObserver>();
    case ObserverKind::kEntropy:
      return std::make_unique<EntropyObserver>();
  }
  fail(ErrorCode::kInternal, "[calib] observer kind {}", static_cast<int>(kind));
}

}  // namespace packlight::calib

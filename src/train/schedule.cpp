#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace packlight::train {

double learning_rate(const Schedule& s, int64_t step) {
  if (step < s.warmup_steps)
    return s.peak * static_cast<double>(step + 1) / static_cast<double>(s.warmup_steps);
  switch (s.kind) {
    case Schedule::Kind::kConstant:
      return s.peak;
    case Schedule::Kind::kStep: {
      const int64_t every =
          s.step_every > 0 ? s.step_every : std::max<int64_t>(1, (s.total_steps + 2) / 3);
      return s.peak * std::pow(s.step_factor, static_cast<double>(step / every));
    }
    case Schedule::Kind::kCosine: {
      const auto length = static_cast<double>(std::max<int64_t>(1, s.total_steps - s.warmup_steps));
      const double progress = std::min(1.0, static_cast<double>(step - s.warmup_steps) / length);
      const double half = 0.5 * (1 + std::cos(std::numbers::pi * progress));
      return s.peak * (s.final_fraction + (1 - s.final_fraction) * half);
    }
  }
  return s.peak;
}

}  // namespace packlight::train

#pragma once

#include <cstdint>

namespace packlight::train {

struct Schedule {
  enum class Kind { kConstant, kStep, kCosine };
  Kind kind = Kind::kCosine;
  double peak = 0.1;         // learning rate after warm-up; > 0
  int64_t warmup_steps = 0;  // linear from peak / warmup_steps
  int64_t total_steps = 0;   // optimizer steps of the whole training
  int64_t step_every = 0;    // kStep: optimizer steps between two drops; 0: a third of the training
  double step_factor = 0.1;  // kStep: what a drop multiplies by
  double final_fraction = 0.01;  // kCosine: of the peak, at the end
};

// The learning rate of optimizer step `step`, 0 to total_steps - 1.
double learning_rate(const Schedule& schedule, int64_t step);

}  // namespace packlight::train

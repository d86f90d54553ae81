#pragma once

#include <cstdint>
#include <span>

namespace packlight::eval {

// What one row of logits says about the next token.
struct RowScore {
  double log_sum = 0;  // log sum_i exp(logits[i]); NaN or infinite when a logit is NaN or +infinity
  int32_t top = 0;     // index of the largest logit, the first of equals
};

// logits: [vocab] f32, not empty. exp() in f32 (relative error below 2^-22), summed in f32 over runs of 64 and in double
// beyond, so log_sum is within 1e-6 of the exact one. Any number of threads at once.
RowScore score_row(std::span<const float> logits);

// Kullback-Leibler divergence of the model from the original in nats, never negative but for rounding:
//   sum_i p_i * (log p_i - log q_i), p = softmax(original), q = softmax(model)
//   = sum_i p_i * (original_i - model_i) + model_log_sum - original_log_sum
// Both rows have the same length; identical rows give exactly 0.
double kl_divergence_row(std::span<const float> original, double original_log_sum,
                         std::span<const float> model, double model_log_sum);

}  // namespace packlight::eval

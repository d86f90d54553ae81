#pragma once

#include <cstdint>

namespace packlight::eval {

// A figure and its standard error.
struct Estimate {
  double value = 0, standard_error = 0;
};

// Sums of two paired series: negative log-likelihoods of a model (x) and of the original (y).
class PairedMoments {
 public:
  void add(double x, double y = 0) {
    ++count_;
    sum_x_ += x;
    sum_y_ += y;
    sum_xx_ += x * x;
    sum_yy_ += y * y;
    sum_xy_ += x * y;
  }
  int64_t count() const { return count_; }
  // Mean of x (y) with standard error sqrt((E[x²] - E[x]²) / (count - 1)), as llama-perplexity reports it.
  Estimate mean_x() const;
  Estimate mean_y() const;
  // exp of those, the error carried through the derivative: perplexities.
  Estimate exp_mean_x() const;
  Estimate exp_mean_y() const;
  // exp(mean x - mean y); the error counts that both were measured on the same tokens (covariance).
  Estimate exp_difference() const;

 private:
  int64_t count_ = 0;
  double sum_x_ = 0, sum_y_ = 0, sum_xx_ = 0, sum_yy_ = 0, sum_xy_ = 0;
};

// hits of count with the binomial standard error sqrt(p (1 - p) / (count - 1)).
Estimate share(int64_t hits, int64_t count);

}  // namespace packlight::eval

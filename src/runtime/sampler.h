#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "packlight/session.h"

namespace packlight::runtime {

// xoshiro256** (Blackman and Vigna, 2018, public domain), seeded through splitmix64: the same
// numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed);
  uint64_t next();
  double uniform();  // [0, 1), 53 bits

 private:
  uint64_t state_[4];
};

// Draws tokens from logits as SamplingOptions describes. One per sequence.
class Sampler {
 public:
  // Errors: InvalidArgument for options out of range.
  explicit Sampler(const SamplingOptions& options);

  // logits: [vocab]. history: every token so far, the prompt's included. Errors: Internal when a
  // logit is NaN.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  void penalize(std::span<const int32_t> history);
  void collect(std::span<const float> logits);
  void collect_top_k(std::span<const float> logits);
  void weigh();
  double weight(float logit) const;  // relative to the largest
  void keep_top_p();
  void keep_min_p();
  int32_t draw();

  SamplingOptions options_;
  float largest_ = 0;
  Random random_;
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;  // of candidates_, not normalised; the largest is 1
  std::vector<int32_t> repeated_;
  std::vector<float> penalized_;
};

// Index of the largest logit, the lowest when equal. Errors: Internal when a logit is NaN.
int32_t argmax(std::span<const float> logits);

}  // namespace packlight::runtime

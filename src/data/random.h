#pragma once

#include <cstdint>
#include <span>
#include <utility>

namespace packlight::data {

// SplitMix64 (Steele, Lea, Flood 2014; constants of Vigna's splitmix64.c), so that a seed gives the
// same order on every system: std::shuffle and the standard distributions may differ between
// libraries.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  // A stream of its own for each (seed, a, b): epoch and sample, say.
  Random(uint64_t seed, uint64_t a, uint64_t b = 0)
      : state_(mix(mix(mix(seed + kStep) ^ (a + kStep)) ^ (b + kStep))) {}

  uint64_t next() { return mix(state_ += kStep); }

  // Uniform in [0, bound), bound >= 1, without bias: draws above the largest multiple are thrown
  // away.
  uint64_t below(uint64_t bound) {
    const uint64_t unfair = (0 - bound) % bound;  // 2^64 mod bound
    uint64_t value = next();
    while (value < unfair) value = next();
    return value % bound;
  }
  // Uniform in [low, high], low <= high, both far from the limits of int64_t.
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low) + 1));
  }
  // Uniform in [0, 1): the upper 53 bits.
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  // Fisher-Yates from the end: for i = n-1 .. 1 swap values[i] with values[below(i + 1)].
  template <class T>
  void shuffle(std::span<T> values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15;
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t state_;
};

}  // namespace packlight::data

#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace packlight::test {

inline at::Tensor tensor(std::vector<float> values, at::IntArrayRef shape) {
  return at::from_blob(values.data(), shape, at::kFloat).clone();
}
inline at::Tensor integers(std::vector<int64_t> values, at::IntArrayRef shape) {
  return at::from_blob(values.data(), shape, at::kLong).clone();
}

// Numbers that look random and are the same on every machine, in (-1, 1).
inline at::Tensor noise(at::IntArrayRef shape, uint64_t seed) {
  at::Tensor out = at::empty(shape, at::kFloat);
  float* data = out.data_ptr<float>();
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (int64_t i = 0; i < out.numel(); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    data[i] = static_cast<float>(static_cast<int64_t>(state >> 40) - (1 << 23)) * 0x1p-23f;
  }
  return out;
}

// Every |got - want| <= bound; a NaN on either side fails.
inline ::testing::AssertionResult close(const at::Tensor& got, const at::Tensor& want,
                                        double bound) {
  if (got.sizes() != want.sizes()) {
    return ::testing::AssertionFailure() << "shape " << got.sizes() << ", want " << want.sizes();
  }
  const at::Tensor a = got.detach().to(at::kDouble).contiguous(),
                   b = want.detach().to(at::kDouble).contiguous();
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.data_ptr<double>()[i], y = b.data_ptr<double>()[i];
    if (std::abs(x - y) <= bound) continue;
    return ::testing::AssertionFailure()
           << "element " << i << " is " << x << ", want " << y << ", bound " << bound;
  }
  return ::testing::AssertionSuccess();
}

}  // namespace packlight::test

#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "codec/half.h"
#include "codec/tile.h"
#include "kernels/kernels.h"

namespace packlight::kernels {

// A suite that runs once for every table of the program. Those that this processor cannot run are
// reported as skipped.
class IsaTest : public testing::TestWithParam<const Kernels*> {
 protected:
  void SetUp() override {
    const auto here = available();
    if (std::find(here.begin(), here.end(), GetParam()) == here.end()) {
      GTEST_SKIP() << "this processor cannot run " << GetParam()->name;
    }
  }
  const Kernels& isa() const { return *GetParam(); }
};

inline std::string isa_name(const testing::TestParamInfo<const Kernels*>& info) {
  return std::string(info.param->name);
}

#define PACKLIGHT_EVERY_ISA(suite) \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::ValuesIn(built().begin(), built().end()), isa_name)

inline constexpr double kEps = 0x1p-24;  // half a unit in the last place of a float near 1

// |got - want| <= bound; NaN is never near anything.
inline testing::AssertionResult near(double got, double want, double bound, int64_t index) {
  if (std::abs(got - want) <= bound) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "index " << index << ": got " << got << ", want " << want
                                     << ", off by " << std::abs(got - want) << ", bound " << bound;
}

inline std::vector<float> random_floats(int64_t n, std::mt19937& rng, float size = 1) {
  std::normal_distribution<float> normal(0, size);
  std::vector<float> values(n);
  for (float& v : values) v = normal(rng);
  return values;
}

// Activations with their buffers.
struct Activations {
  std::vector<int8_t> q;
  std::vector<float> scale;
  std::vector<int32_t> sum;
  ActivationsInt8 view;

  Activations(int64_t tokens, int64_t cols) {
    const int64_t padded = codec::padded_cols(cols);
    q.assign(tokens * padded, 99);  // padding must be overwritten
    scale.assign(tokens * padded / 32, -1);
    sum.assign(tokens * padded / 32, -1);
    view.tokens = tokens;
    view.padded_cols = padded;
    view.q = q.data();
    view.scale = scale.data();
    view.sum = sum.data();
  }
};

}  // namespace packlight::kernels

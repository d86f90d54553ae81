#include "quantize/group_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "codec/half.h"
#include "packlight/error.h"

namespace packlight::quantize {
namespace {

struct Fitted {
  GroupFit fit;
  std::vector<int8_t> codes;
  double error = 0, energy = 0;
  float scale() const { return codec::f16_to_f32(fit.scale); }
  float value(size_t i) const { return (codes[i] - fit.zero) * scale(); }
};

Fitted fit(int bits, bool symmetric, ScaleMethod method, const std::vector<float>& w, std::vector<float> importance = {}) {
  if (importance.empty()) importance.assign(w.size(), 1.0f);
  Fitted out;
  out.codes.resize(w.size());
  GroupFitter fitter(code_range(bits, symmetric), method);
  out.fit = fitter.fit(w, importance, out.codes.data(), &out.error, &out.energy);
  return out;
}

std::vector<float> random_row(size_t n, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> w(n);
  for (float& v : w) v = normal(engine);
  return w;
}

std::vector<float> random_importance(size_t n, uint32_t seed) {
  std::vector<float> h = random_row(n, seed);
  for (float& v : h) v = std::exp(40 * v);
  return h;
}

TEST(GroupFit, AbsMaxInt4HitsTheLargestWeightWithCodeSeven) {
  const Fitted f = fit(4, true, ScaleMethod::kAbsMax, {0.5f, -3.5f, 1.0f, 0.0f});
  EXPECT_EQ(f.scale(), 0.5f);
  EXPECT_EQ(f.codes, (std::vector<int8_t>{1, -7, 2, 0}));
  EXPECT_EQ(f.error, 0);
}

TEST(GroupFit, AbsMaxInt8HitsTheLargestWeightWithCode127) {
  const Fitted f = fit(8, true, ScaleMethod::kAbsMax, {127.0f, -64.0f, 1.0f});
  EXPECT_EQ(f.scale(), 1.0f);
  EXPECT_EQ(f.codes, (std::vector<int8_t>{127, -64, 1}));
}

TEST(GroupFit, RoundsHalfToEven) {
  const Fitted f = fit(8, true, ScaleMethod::kAbsMax, {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f});
  EXPECT_EQ(f.codes, (std::vector<int8_t>{127, 0, 2, 2, 0, -2}));
}

// 1 / 7 is no F16 number: codes must belong to the scale as it is stored.
TEST(GroupFit, RoundsWithTheStoredScale) {
  const std::vector<float> w = random_row(64, 1);
  for (const bool symmetric : {true, false}) {
    const Fitted f = fit(4, symmetric, ScaleMethod::kAbsMax, w);
    for (size_t i = 0; i < w.size(); ++i) {
      const float q = std::nearbyint(w[i] / f.scale()) + f.fit.zero;
      EXPECT_EQ(f.codes[i], std::clamp(q, symmetric ? -8.0f : 0.0f, symmetric ? 7.0f : 15.0f)) << i;
    }
  }
}

TEST(GroupFit, AsymmetricCoversARangeOnOneSide) {
  // 0 belongs to the range, so (max - 0) / 15 = 1 and the zero point is 0.
  const Fitted f = fit(4, false, ScaleMethod::kAbsMax, {15.0f, 8.0f, 10.0f});
  EXPECT_EQ(f.scale(), 1.0f);
  EXPECT_EQ(f.fit.zero, 0);
  EXPECT_EQ(f.codes, (std::vector<int8_t>{15, 8, 10}));
  const Fitted below = fit(4, false, ScaleMethod::kAbsMax, {-15.0f, -8.0f});
  EXPECT_EQ(below.fit.zero, 15);
  EXPECT_EQ(below.codes, (std::vector<int8_t>{0, 7}));
}

TEST(GroupFit, AsymmetricZeroPointIsTheNearest) {
  const Fitted f = fit(4, false, ScaleMethod::kAbsMax, {-0.75f, 14.25f});
  EXPECT_EQ(f.scale(), 1.0f);
  EXPECT_EQ(f.fit.zero, 1);
  EXPECT_EQ(f.codes, (std::vector<int8_t>{0, 15}));
}

TEST(GroupFit, ZeroGroupHasZeroScaleCodesAndZeroPoint) {
  for (const ScaleMethod method : {ScaleMethod::kAbsMax, ScaleMethod::kSearch}) {
    const Fitted f = fit(4, false, method, std::vector<float>(32, 0.0f));
    EXPECT_EQ(f.fit.scale, 0);
    EXPECT_EQ(f.fit.zero, 0);
    EXPECT_EQ(f.codes, std::vector<int8_t>(32, 0));
    EXPECT_FALSE(f.fit.overflows);
  }
}

TEST(GroupFit, ScaleBelowF16BecomesItsLeastNumber) {
  // 4e-7 / 127 rounds to 0 in F16; with 2^-24 = 5.96e-8 the weight is 6.7 steps.
  const Fitted f = fit(8, true, ScaleMethod::kAbsMax, {4e-7f, 0.0f});
  EXPECT_EQ(f.fit.scale, 1);
  EXPECT_EQ(f.codes, (std::vector<int8_t>{7, 0}));
  for (const float tiny : {1e-9f, 1e-30f, 1e-44f}) {
    for (const bool symmetric : {true, false}) {
      const Fitted none = fit(4, symmetric, ScaleMethod::kSearch, {tiny, -tiny, 0.0f});
      EXPECT_EQ(none.fit.scale, 0);
      EXPECT_EQ(none.fit.zero, 0);
      EXPECT_EQ(none.codes, (std::vector<int8_t>{0, 0, 0}));
    }
  }
}

TEST(GroupFit, ScaleBeyondF16IsReported) {
  EXPECT_TRUE(fit(4, true, ScaleMethod::kSearch, {1e6f, 1.0f}).fit.overflows);
  EXPECT_TRUE(fit(4, false, ScaleMethod::kSearch, {3e38f, -3e38f}).fit.overflows);
  EXPECT_FALSE(fit(4, true, ScaleMethod::kSearch, {4e5f, 1.0f}).fit.overflows);  // 4e5 / 7 = 57143
}

TEST(GroupFit, SearchUsesCodeMinusEight) {
  // Exactly representable only when 8 (of one sign) is mapped to -8, with a scale of the other sign.
  std::vector<float> w;
  for (int i = -7; i <= 8; ++i) w.push_back(static_cast<float>(i));
  const Fitted f = fit(4, true, ScaleMethod::kSearch, w);
  EXPECT_EQ(f.scale(), -1.0f);
  EXPECT_EQ(f.error, 0);
  for (size_t i = 0; i < w.size(); ++i) EXPECT_EQ(f.value(i), w[i]);
}

TEST(GroupFit, SearchFindsAGridAgain) {
  // Weights made of codes and an F16 scale come back exactly, zero point included.
  std::mt19937 engine(7);
  for (int trial = 0; trial < 50; ++trial) {
    const int zero = static_cast<int>(engine() % 16);
    std::vector<float> w(32);
    for (float& v : w) v = (static_cast<int>(engine() % 16) - zero) * 0.03125f;
    w[0] = -zero * 0.03125f;  // both ends of the range occur
    w[1] = (15 - zero) * 0.03125f;
    const Fitted f = fit(4, false, ScaleMethod::kSearch, w);
    EXPECT_LT(f.error, 1e-12 * f.energy) << "zero point " << zero;
  }
}

class GroupFitForms : public ::testing::TestWithParam<std::tuple<int, bool, int>> {};

TEST_P(GroupFitForms, SearchNeverLosesToAbsMaxAndReportsItsError) {
  const auto [bits, symmetric, n] = GetParam();
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const std::vector<float> w = random_row(n, seed), h = random_importance(n, seed + 1000);
    const Fitted plain = fit(bits, symmetric, ScaleMethod::kAbsMax, w, h);
    const Fitted search = fit(bits, symmetric, ScaleMethod::kSearch, w, h);
    EXPECT_LE(search.error, plain.error);
    double error = 0;
    for (int i = 0; i < n; ++i) error += double{h[i]} * (w[i] - search.value(i)) * (w[i] - search.value(i));
    // float sums of n terms in 16 lanes: n / 16 + 4 roundings of at most 2^-24 each, on terms that are rounded 3 times
    EXPECT_NEAR(search.error, error, error * (n / 16 + 8) * 0x1p-23) << "seed " << seed;
  }
}
INSTANTIATE_TEST_SUITE_P(All, GroupFitForms,
                         ::testing::Values(std::tuple(4, true, 32), std::tuple(4, true, 128), std::tuple(4, true, 7),
                                           std::tuple(4, false, 32), std::tuple(4, false, 65), std::tuple(8, true, 32),
                                           std::tuple(8, true, 576)));

// Every scale on a fine grid of either sign, with its best refit: the search may lose at most a little to it.
double exhaustive_error(const std::vector<float>& w, const std::vector<float>& h) {
  float extreme = 0;
  for (const float v : w) extreme = std::max(extreme, std::fabs(v));
  double best = INFINITY;
  for (int step = 0; step < 4000; ++step) {
    for (const float sign : {1.0f, -1.0f}) {
      const float scale = sign * extreme / (4.0f + 0.003f * step);
      double wq = 0, qq = 0, ww = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        const double q = std::clamp(std::nearbyint(w[i] / scale), -8.0f, 7.0f);
        wq += h[i] * w[i] * q;
        qq += h[i] * q * q;
        ww += double{h[i]} * w[i] * w[i];
      }
      if (qq > 0) best = std::min(best, ww - wq * wq / qq);
    }
  }
  return best;
}

TEST(GroupFit, SearchIsNearTheBestScale) {
  double found = 0, best = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    const std::vector<float> w = random_row(32, seed), h = random_importance(32, seed + 500);
    found += fit(4, true, ScaleMethod::kSearch, w, h).error;
    best += exhaustive_error(w, h);
  }
  EXPECT_LT(found, 1.02 * best);
}

TEST(GroupFit, ImportanceDecidesWhichWeightIsKept) {
  // An unimportant outlier is clipped for the sake of the rest.
  std::vector<float> w = random_row(32, 3), h(32, 1.0f);
  w[5] = 2.0f;
  h[5] = 1e-4f;
  const Fitted f = fit(4, true, ScaleMethod::kSearch, w, h);
  EXPECT_LT(std::fabs(f.value(5)), 1.0f);
  EXPECT_LT(f.error, 0.2 * fit(4, true, ScaleMethod::kAbsMax, w, h).error);
}

TEST(CodeRange, RefusesWhatHasNoForm) {
  EXPECT_THROW(code_range(8, false), Error);
  EXPECT_THROW(code_range(3, true), Error);
}

}  // namespace
}  // namespace packlight::quantize

#include "eval/row_scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace packlight::eval {
namespace {

std::vector<float> random_logits(size_t n, uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(n);
  for (float& v : logits) v = normal(random);
  return logits;
}

double exact_log_sum(const std::vector<float>& logits) {
  double sum = 0;
  for (float v : logits) sum += std::exp(static_cast<double>(v));
  return std::log(sum);
}

double exact_divergence(const std::vector<float>& p, const std::vector<float>& q) {
  const double zp = exact_log_sum(p), zq = exact_log_sum(q);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += std::exp(p[i] - zp) * ((p[i] - zp) - (q[i] - zq));
  return sum;
}

// Relative errors: exp 2^-22, run sums 64 * 2^-24 at worst; the logarithm turns them into an absolute one.
constexpr double kLogSumBound = 0x1p-22 + 64 * 0x1p-24;

TEST(ScoreRow, EqualsTheDoubleFormulaOnEveryLength) {
  for (size_t n : {1, 2, 15, 16, 17, 1023, 1024, 1025, 1040, 49152}) {
    const std::vector<float> logits = random_logits(n, static_cast<uint32_t>(n), 4);
    EXPECT_NEAR(score_row(logits).log_sum, exact_log_sum(logits), kLogSumBound) << n;
  }
}

TEST(ScoreRow, TopIsTheFirstOfTheLargest) {
  EXPECT_EQ(score_row(std::vector<float>{1, 3, 2, 3}).top, 1);
  std::vector<float> logits(100, -1.f);
  logits[99] = 0;
  EXPECT_EQ(score_row(logits).top, 99);
}

TEST(ScoreRow, LargeLogitsNeitherOverflowNorVanish) {
  const std::vector<float> logits = {3e38f, -3e38f, 0.f};
  EXPECT_EQ(score_row(logits).log_sum, static_cast<double>(3e38f));
  EXPECT_EQ(score_row(std::vector<float>{-1e30f, -1e30f}).log_sum, static_cast<double>(-1e30f) + std::log(2.0));
}

TEST(ScoreRow, AbsentTokensMayBeMinusInfinity) {
  const float minus_infinity = -std::numeric_limits<float>::infinity();
  EXPECT_NEAR(score_row(std::vector<float>{minus_infinity, 0.f, 0.f}).log_sum, std::log(2.0), kLogSumBound);
}

TEST(ScoreRow, NaNAndInfinityShow) {
  for (size_t at : {0, 7, 16, 99}) {
    std::vector<float> logits(100, 1.f);
    logits[at] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(score_row(logits).log_sum)) << at;
    logits[at] = std::numeric_limits<float>::infinity();
    EXPECT_FALSE(std::isfinite(score_row(logits).log_sum)) << at;
  }
}

TEST(KlDivergenceRow, EqualsTheDoubleFormula) {
  for (size_t n : {2, 17, 1000, 49152}) {
    const std::vector<float> p = random_logits(n, 1, 3);
    std::vector<float> q = random_logits(n, 2, 0.3f);
    for (size_t i = 0; i < n; ++i) q[i] += p[i];
    const double got = kl_divergence_row(p, score_row(p).log_sum, q, score_row(q).log_sum);
    // Two logarithms and the weighted sum, whose terms are below 2 here.
    EXPECT_NEAR(got, exact_divergence(p, q), 4 * kLogSumBound) << n;
  }
}

TEST(KlDivergenceRow, OfARowFromItselfIsZero) {
  const std::vector<float> p = random_logits(1000, 3, 5);
  EXPECT_EQ(kl_divergence_row(p, score_row(p).log_sum, p, score_row(p).log_sum), 0);
}

TEST(KlDivergenceRow, DoesNotSeeAConstantAdded) {
  const std::vector<float> p = {0.f, 1.f, 2.f};
  const std::vector<float> q = {4.f, 5.f, 6.f};
  EXPECT_NEAR(kl_divergence_row(p, score_row(p).log_sum, q, score_row(q).log_sum), 0, 4 * 5 * 0x1p-22);
}

}  // namespace
}  // namespace packlight::eval

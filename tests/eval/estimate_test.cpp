#include "eval/estimate.h"

#include <gtest/gtest.h>

#include <cmath>

namespace packlight::eval {
namespace {

PairedMoments moments() {
  PairedMoments out;
  out.add(1, 1);
  out.add(2, 1);
  out.add(6, 4);
  return out;
}

TEST(PairedMoments, MeanAndItsStandardError) {
  // x: mean 3, variance (4 + 1 + 9) / 3; y: mean 2, variance (1 + 1 + 4) / 3.
  EXPECT_DOUBLE_EQ(moments().mean_x().value, 3);
  EXPECT_DOUBLE_EQ(moments().mean_x().standard_error, std::sqrt(14.0 / 3 / 2));
  EXPECT_DOUBLE_EQ(moments().mean_y().value, 2);
  EXPECT_DOUBLE_EQ(moments().mean_y().standard_error, 1);
  EXPECT_DOUBLE_EQ(moments().exp_mean_y().value, std::exp(2.0));
  EXPECT_DOUBLE_EQ(moments().exp_mean_y().standard_error, std::exp(2.0));
}

TEST(PairedMoments, DifferenceCountsTheCovariance) {
  // x - y: 0, 1, 2.
  EXPECT_DOUBLE_EQ(moments().exp_difference().value, std::exp(1.0));
  EXPECT_NEAR(moments().exp_difference().standard_error, std::exp(1.0) * std::sqrt(2.0 / 3 / 2), 64 * 0x1p-53);
}

TEST(PairedMoments, OfOneValueOrNoneHasNoError) {
  PairedMoments one;
  EXPECT_EQ(one.mean_x().value, 0);
  one.add(5);
  EXPECT_EQ(one.mean_x().value, 5);
  EXPECT_EQ(one.mean_x().standard_error, 0);
}

TEST(Share, HasTheBinomialError) {
  EXPECT_DOUBLE_EQ(share(3, 4).value, 0.75);
  EXPECT_DOUBLE_EQ(share(3, 4).standard_error, 0.25);  // sqrt(3 / 16 / 3)
  EXPECT_EQ(share(4, 4).standard_error, 0);
  EXPECT_EQ(share(0, 0).value, 0);
}

}  // namespace
}  // namespace packlight::eval

#include "eval/first_difference.h"

#include <gtest/gtest.h>

#include <cmath>

#include "codec/half.h"
#include "codec/tile.h"

namespace packlight::eval {
namespace {

codec::QuantizedMatrix matrix() {
  codec::QuantizedMatrix m;
  m.rows = 20;
  m.cols = 40;
  m.group_size = 32;
  for (int i = 0; i < 800; ++i) m.codes.push_back(static_cast<int8_t>(i % 16 - 8));
  m.scales.assign(40, codec::f32_to_f16(0.5f));
  return m;
}

std::string difference(const codec::QuantizedMatrix& a, const codec::QuantizedMatrix& b) {
  return first_difference(codec::pack(a), codec::pack(b)).value_or("none");
}

TEST(FirstDifference, NamesCodeScaleAndZeroPoint) {
  const codec::QuantizedMatrix want = matrix();
  EXPECT_EQ(difference(want, want), "none");
  codec::QuantizedMatrix got = want;
  got.codes[17 * 40 + 39] = 3;
  got.codes[19 * 40] = -1;
  EXPECT_EQ(difference(got, want), "row 17, column 39: code 3, not 7");
  got.scales[3 * 2 + 1] = codec::f32_to_f16(0.25f);
  EXPECT_EQ(difference(got, want), "row 3, group 1: scale 0.25, not 0.5");
}

TEST(FirstDifference, NamesZeroPoints) {
  codec::QuantizedMatrix want = matrix();
  for (int8_t& code : want.codes) code = static_cast<int8_t>(code + 8);
  want.zeros.assign(40, 8);
  codec::QuantizedMatrix got = want;
  got.zeros[39] = 9;
  EXPECT_EQ(difference(got, want), "row 19, group 1: zero point 9, not 8");
}

TEST(FirstDifference, NamesFormatAndShape) {
  codec::QuantizedMatrix other = matrix();
  other.bits = 8;
  EXPECT_EQ(difference(other, matrix()), "stored as TILE_INT8 in groups of 32, not TILE_INT4 in groups of 32");
  other = matrix();
  other.rows = 19;
  other.codes.resize(19 * 40);
  other.scales.resize(19 * 2);
  EXPECT_EQ(difference(other, matrix()), "19 x 40, not 20 x 40");
}

TEST(FirstDifference, NamesDenseValues) {
  std::vector<float> a = {1, 2, 3, 4}, b = {1, 2, 3.5, 4};
  codec::EncodedTensor x, y;
  x.rows = y.rows = 2;
  x.cols = y.cols = 2;
  x.data = std::as_bytes(std::span(a));
  y.data = std::as_bytes(std::span(b));
  EXPECT_EQ(first_difference(x, x), std::nullopt);
  EXPECT_EQ(first_difference(x, y), "row 1, column 0: 3, not 3.5");
  const auto f16 = [](float v) { return codec::pack_f16(std::vector<float>{0, v}, 1, 2); };
  EXPECT_EQ(first_difference(f16(2), f16(1)), "row 0, column 1: 2, not 1");
}

}  // namespace
}  // namespace packlight::eval

#include "quantize/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "codec/half.h"
#include "packlight/error.h"

namespace packlight::quantize {
namespace {

std::vector<float> random_weights(int64_t n, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> w(n);
  for (float& v : w) v = normal(engine);
  return w;
}

codec::QuantizedMatrix round_all(const std::vector<float>& w, int64_t rows, int64_t cols, const RoundingOptions& options,
                                 int threads = 1, std::span<const double> mean_square = {}) {
  base::ThreadPool pool(threads);
  RoundingError error;
  return round_rows({"layer", 0, rows, cols, w}, options, normalised_importance(mean_square, cols), pool, &error);
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(RoundRows, LastGroupIsShorter) {
  // 576 = 4 * 128 + 64, a width that real models have; here 80 = 64 + 16.
  const auto m = round_all(random_weights(3 * 80, 1), 3, 80, {4, 64, true, ScaleMethod::kAbsMax});
  EXPECT_EQ(m.groups_per_row(), 2);
  EXPECT_EQ(m.scales.size(), 6u);
  EXPECT_TRUE(m.zeros.empty());
}

TEST(RoundRows, EachGroupHasItsOwnScale) {
  std::vector<float> w(64, 0.0f);
  w[0] = 7;   // scale 1
  w[32] = 14; // scale 2
  w[33] = 2;
  const auto m = round_all(w, 1, 64, {4, 32, true, ScaleMethod::kAbsMax});
  EXPECT_EQ(codec::f16_to_f32(m.scales[0]), 1);
  EXPECT_EQ(codec::f16_to_f32(m.scales[1]), 2);
  EXPECT_EQ(m.codes[33], 1);
}

TEST(RoundRows, GroupZeroIsTheWholeRow) {
  const auto m = round_all(random_weights(2 * 50, 2), 2, 50, {8, 0, true, ScaleMethod::kAbsMax});
  EXPECT_EQ(m.group_size, 50);
  EXPECT_EQ(m.scales.size(), 2u);
}

TEST(RoundRows, ThreadsDoNotChangeTheResult) {
  const std::vector<float> w = random_weights(100 * 96, 3);
  std::vector<double> mean_square(96);
  for (size_t c = 0; c < mean_square.size(); ++c) mean_square[c] = 0.01 + static_cast<double>(c % 7);
  for (const bool symmetric : {true, false}) {
    const RoundingOptions options{4, 32, symmetric, ScaleMethod::kSearch};
    const auto one = round_all(w, 100, 96, options, 1, mean_square), four = round_all(w, 100, 96, options, 4, mean_square);
    EXPECT_EQ(one.codes, four.codes);
    EXPECT_EQ(one.scales, four.scales);
    EXPECT_EQ(one.zeros, four.zeros);
  }
}

TEST(RoundRows, NotFiniteNamesTensorAndPosition) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> w(4 * 32, 0.1f);
    w[2 * 32 + 5] = bad;
    base::ThreadPool pool(1);
    RoundingError error;
    const std::string message = message_of([&] {
      round_rows({"mlp.up", 100, 4, 32, w}, {}, normalised_importance({}, 32), pool, &error);
    });
    EXPECT_NE(message.find("'mlp.up'"), std::string::npos) << message;
    EXPECT_NE(message.find("row 102, column 5"), std::string::npos) << message;
  }
}

TEST(RoundRows, ScaleBeyondF16NamesTheGroup) {
  std::vector<float> w(2 * 64, 0.1f);
  w[64 + 40] = 1e9f;
  base::ThreadPool pool(1);
  RoundingError error;
  const std::string message = message_of([&] {
    round_rows({"mlp.up", 100, 2, 64, w}, {}, normalised_importance({}, 64), pool, &error);
  });
  EXPECT_NE(message.find("row 101, group 1 (columns 32 to 63) holds 1"), std::string::npos) << message;
}

// 1 + 2^-12 lies between the F16 numbers 1 and 1 + 2^-10, nearer to 1.
TEST(RoundRowsF16, ErrorCountsImportanceAndEveryRow) {
  const std::vector<float> w = {1 + 0x1p-12f, 2, 4, 1 + 0x1p-12f}, importance = {0.5f, 3};
  RoundingError error;
  const codec::EncodedTensor packed = round_rows_f16({"norm", 0, 2, 2, w}, importance, &error);
  std::vector<float> row(2);
  codec::decode_rows(packed, 1, 2, row.data());
  EXPECT_EQ(row, (std::vector<float>{4, 1}));
  EXPECT_EQ(error.error, (0.5 + 3) * 0x1p-24);
  const double square = (1 + 0x1p-12) * (1 + 0x1p-12);
  EXPECT_DOUBLE_EQ(error.energy, 0.5 * (square + 16) + 3 * (4 + square));
}

TEST(NormalisedImportance, HasMeanOneAndAFloor) {
  const std::vector<float> h = normalised_importance(std::vector<double>{0, 2, 4, 2}, 4);
  EXPECT_EQ(h[1], 1.0f);
  EXPECT_EQ(h[2], 2.0f);
  EXPECT_GT(h[0], 0.0f);
  EXPECT_LE(h[0], 1.01e-4f);
}

TEST(NormalisedImportance, DropsBitsThatDifferBetweenProcessors) {
  const std::vector<double> a = {1.2345678, 3.1415926, 0.7}, b = {1.2345679, 3.1415927, 0.7000001};
  EXPECT_EQ(normalised_importance(a, 3), normalised_importance(b, 3));
}

TEST(NormalisedImportance, OfNothingIsUniform) {
  EXPECT_EQ(normalised_importance({}, 2), (std::vector<float>{1, 1}));
  EXPECT_EQ(normalised_importance(std::vector<double>{0, 0}, 2), (std::vector<float>{1, 1}));
  EXPECT_THROW(normalised_importance(std::vector<double>{1}, 2), Error);
  EXPECT_THROW(normalised_importance(std::vector<double>{1, NAN}, 2), Error);
}

}  // namespace
}  // namespace packlight::quantize

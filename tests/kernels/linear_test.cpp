#include "kernels/isa_test.h"

namespace packlight::kernels {
namespace {

enum class Format { kInt4, kInt4Asymmetric, kInt8 };

struct Shape {
  int64_t rows, cols, group, tokens;
};

// Rows that are no multiple of 16, columns that are none of 32 or 8, every token count up to two
// register blocks, and every group size including ragged last groups and whole rows.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17}) {
    all.push_back({19, 130, 32, tokens});
    all.push_back({16, 130, 64, tokens});
    all.push_back({33, 200, 128, tokens});
    all.push_back({5, 37, 37, tokens});
  }
  for (const int64_t cols : {1, 3, 7, 8, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 300, 576}) {
    for (const int64_t group : {int64_t{32}, int64_t{64}, int64_t{128}, cols}) {
      all.push_back({cols % 20 + 1, cols, group, 1});
      all.push_back({cols % 37 + 1, cols, group, 3});
    }
  }
  all.push_back({40, 600, 64, 70});  // more than one block of tokens and of columns
  return all;
}

codec::QuantizedMatrix random_matrix(const Shape& s, Format format, bool extreme,
                                     std::mt19937& rng) {
  codec::QuantizedMatrix m;
  m.rows = s.rows;
  m.cols = s.cols;
  m.bits = format == Format::kInt8 ? 8 : 4;
  m.group_size = s.group;
  const int low = format == Format::kInt8 ? -127 : format == Format::kInt4 ? -8 : 0;
  const int high = format == Format::kInt8 ? 127 : low + 15;
  for (int64_t i = 0; i < s.rows * s.cols; ++i) {
    const int code =
        extreme ? (rng() % 8 != 0 ? high : low) : low + static_cast<int>(rng() % (high - low + 1));
    m.codes.push_back(static_cast<int8_t>(code));
  }
  m.scales.assign(s.rows * m.groups_per_row(), 0x3c00);
  if (format == Format::kInt4Asymmetric) {
    for (size_t i = 0; i < m.scales.size(); ++i)
      m.zeros.push_back(extreme ? 15 * (rng() % 2) : rng() % 16);
  }
  return m;
}

int zero_of(const codec::QuantizedMatrix& m, int64_t r, int64_t c) {
  return m.symmetric() ? 0 : m.zeros[r * m.groups_per_row() + c / m.group_size];
}

double scale_of(const codec::QuantizedMatrix& m, int64_t r, int64_t c) {
  return codec::f16_to_f32(m.scales[r * m.groups_per_row() + c / m.group_size]);
}

void random_scales(codec::QuantizedMatrix& m, std::mt19937& rng) {
  for (uint16_t& scale : m.scales)
    scale = static_cast<uint16_t>(rng() % 0x4400 | (rng() % 8 == 0 ? 0x8000 : 0));
  m.scales[0] = 1;  // the smallest subnormal
  if (m.scales.size() > 1) m.scales[1] = 0;
}

void fill_codes(Activations& a, int64_t cols, bool extreme, std::mt19937& rng) {
  const int64_t blocks = a.view.padded_cols / 32;
  for (int64_t t = 0; t < a.view.tokens; ++t) {
    for (int64_t b = 0; b < blocks; ++b) {
      int32_t sum = 0;
      for (int64_t c = b * 32; c < b * 32 + 32; ++c) {
        int q = c >= cols ? 0 : static_cast<int>(rng() % 255) - 127;
        if (extreme && c < cols) q = rng() % 8 != 0 ? -127 : 127;
        a.q[t * a.view.padded_cols + c] = static_cast<int8_t>(q);
        sum += q;
      }
      a.sum[t * blocks + b] = sum;
      a.scale[t * blocks + b] = 1;
    }
  }
}

std::string describe(const Shape& s, Format f) {
  return std::to_string(s.rows) + " x " + std::to_string(s.cols) + " group " +
         std::to_string(s.group) + " tokens " + std::to_string(s.tokens) + " format " +
         std::to_string(static_cast<int>(f));
}

class LinearTest : public IsaTest {
 protected:
  static constexpr float kUntouched = -12345;

  // Runs tiles one call at a time, last first, so a kernel that writes outside its tiles is seen.
  std::vector<float> run_a8(const codec::EncodedTensor& w, const Activations& x, int64_t ldy) {
    std::vector<float> y(x.view.tokens * ldy, kUntouched);
    const int64_t tiles = codec::row_tiles(w.rows);
    isa().linear_a8(w, x.view, tiles / 2, tiles, y.data(), ldy);
    isa().linear_a8(w, x.view, 0, tiles / 2, y.data(), ldy);
    return y;
  }
  std::vector<float> run_f32(const codec::EncodedTensor& w, const std::vector<float>& x,
                             int64_t tokens, int64_t ldy) {
    std::vector<float> y(tokens * ldy, kUntouched);
    const int64_t tiles = codec::row_tiles(w.rows);
    isa().linear_f32(w, x.data(), tokens, codec::padded_cols(w.cols), tiles / 2, tiles, y.data(),
                     ldy);
    isa().linear_f32(w, x.data(), tokens, codec::padded_cols(w.cols), 0, tiles / 2, y.data(), ldy);
    return y;
  }
  static void expect_untouched(const std::vector<float>& y, int64_t rows, int64_t ldy) {
    for (size_t i = 0; i < y.size(); ++i) {
      if (static_cast<int64_t>(i) % ldy < rows) continue;
      ASSERT_EQ(y[i], kUntouched) << "index " << i;
    }
  }
};
PACKLIGHT_EVERY_ISA(LinearTest);

// Scales of 1 keep every float operation on whole numbers below 2^24, so the result shows the
// integer dot products bit for bit.
TEST_P(LinearTest, IntegerDotProductsAreExact) {
  std::mt19937 rng(1);
  for (const Shape& s : shapes()) {
    for (const Format format : {Format::kInt4, Format::kInt4Asymmetric, Format::kInt8}) {
      for (const bool extreme : {false, true}) {
        const codec::QuantizedMatrix m = random_matrix(s, format, extreme, rng);
        Activations x(s.tokens, s.cols);
        fill_codes(x, s.cols, extreme, rng);
        const int64_t ldy = s.rows + 3;

        const std::vector<float> y = run_a8(codec::pack(m), x, ldy);

        for (int64_t t = 0; t < s.tokens; ++t) {
          for (int64_t r = 0; r < s.rows; ++r) {
            int64_t want = 0;
            for (int64_t c = 0; c < s.cols; ++c) {
              want +=
                  (m.codes[r * s.cols + c] - zero_of(m, r, c)) * x.q[t * x.view.padded_cols + c];
            }
            ASSERT_LT(std::abs(want), 1 << 24);
            ASSERT_EQ(y[t * ldy + r], static_cast<float>(want))
                << describe(s, format) << " token " << t << " row " << r << " extreme " << extreme;
          }
        }
        ASSERT_NO_FATAL_FAILURE(expect_untouched(y, s.rows, ldy)) << describe(s, format);
      }
    }
  }
}

// Each block adds a product of three numbers (two roundings) and one sum: (blocks + 3) eps of the
// sum of magnitudes.
TEST_P(LinearTest, ScaledSumsAreWithinTheRoundingBound) {
  std::mt19937 rng(2);
  for (const Shape& s : shapes()) {
    for (const Format format : {Format::kInt4, Format::kInt4Asymmetric, Format::kInt8}) {
      codec::QuantizedMatrix m = random_matrix(s, format, false, rng);
      random_scales(m, rng);
      Activations x(s.tokens, s.cols);
      fill_codes(x, s.cols, false, rng);
      for (float& scale : x.scale) scale = std::exp2(static_cast<float>(rng() % 1000) / 50 - 18);
      const int64_t blocks = x.view.padded_cols / 32;

      const std::vector<float> y = run_a8(codec::pack(m), x, s.rows);

      for (int64_t t = 0; t < s.tokens; ++t) {
        for (int64_t r = 0; r < s.rows; ++r) {
          double want = 0, size = 0;
          for (int64_t b = 0; b < blocks; ++b) {
            int64_t dot = 0;
            for (int64_t c = b * 32; c < std::min(s.cols, b * 32 + 32); ++c) {
              dot += (m.codes[r * s.cols + c] - zero_of(m, r, c)) * x.q[t * x.view.padded_cols + c];
            }
            const double term = dot * scale_of(m, r, b * 32) * x.scale[t * blocks + b];
            want += term;
            size += std::abs(term);
          }
          const double bound = (blocks + 3) * kEps * size + 0x1p-140;
          ASSERT_TRUE(near(y[t * s.rows + r], want, bound, t * s.rows + r)) << describe(s, format);
        }
      }
    }
  }
}

// Each element adds a product and a sum: (cols + 3) eps of the sum of magnitudes (codes times
// scales are exact).
TEST_P(LinearTest, FloatActivationsAreWithinTheRoundingBound) {
  std::mt19937 rng(3);
  for (const Shape& s : shapes()) {
    for (const int format : {0, 1, 2, 3}) {
      const int64_t padded = codec::padded_cols(s.cols);
      codec::EncodedTensor w;
      if (format == 3) {
        w = codec::pack_f16(random_floats(s.rows * s.cols, rng), s.rows, s.cols);
      } else {
        codec::QuantizedMatrix m = random_matrix(s, static_cast<Format>(format), false, rng);
        random_scales(m, rng);
        w = codec::pack(m);
      }
      std::vector<float> x(s.tokens * padded, 0);
      for (int64_t t = 0; t < s.tokens; ++t) {
        const std::vector<float> row = random_floats(s.cols, rng);
        std::copy(row.begin(), row.end(), x.begin() + t * padded);
      }
      const int64_t ldy = s.rows + 1;

      const std::vector<float> y = run_f32(w, x, s.tokens, ldy);

      std::vector<float> row(s.cols);
      for (int64_t r = 0; r < s.rows; ++r) {
        codec::decode_tile_row(w, r, row.data());
        for (int64_t t = 0; t < s.tokens; ++t) {
          double want = 0, size = 0;
          for (int64_t c = 0; c < s.cols; ++c) {
            want += static_cast<double>(row[c]) * x[t * padded + c];
            size += std::abs(static_cast<double>(row[c]) * x[t * padded + c]);
          }
          const double bound = (s.cols + 3) * kEps * size + 0x1p-140;
          ASSERT_TRUE(near(y[t * ldy + r], want, bound, t * ldy + r))
              << describe(s, static_cast<Format>(format));
        }
      }
      ASSERT_NO_FATAL_FAILURE(expect_untouched(y, s.rows, ldy))
          << describe(s, static_cast<Format>(format));
    }
  }
}

TEST_P(LinearTest, NanAndInfinityReachEveryRowOfTheirTokenAndNoOther) {
  std::mt19937 rng(4);
  const Shape s{20, 70, 32, 9};
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    for (const Format format : {Format::kInt4, Format::kInt4Asymmetric, Format::kInt8}) {
      const codec::EncodedTensor w = codec::pack(random_matrix(s, format, false, rng));
      const int64_t padded = codec::padded_cols(s.cols);
      std::vector<float> x(s.tokens * padded, 0);
      for (int64_t t = 0; t < s.tokens; ++t) std::fill_n(x.begin() + t * padded, s.cols, 0.5f);
      x[3 * padded + 40] = bad;
      Activations a(s.tokens, s.cols);
      for (int64_t t = 0; t < s.tokens; ++t)
        isa().quantize_activations(x.data() + t * padded, s.cols, t, a.view);

      const std::vector<float> from_int8 = run_a8(w, a, s.rows);
      const std::vector<float> from_f32 = run_f32(w, x, s.tokens, s.rows);

      for (int64_t i = 0; i < s.tokens * s.rows; ++i) {
        EXPECT_EQ(std::isnan(from_int8[i]), i / s.rows == 3) << i;
        if (i / s.rows != 3) {
          EXPECT_TRUE(std::isfinite(from_f32[i])) << i;
        } else if (std::isnan(bad)) {
          EXPECT_TRUE(std::isnan(from_f32[i])) << i;
        }
      }
    }
  }
}

TEST_P(LinearTest, ZeroBlocksGiveZeros) {
  std::mt19937 rng(5);
  const Shape s{17, 96, 64, 5};
  const codec::EncodedTensor w = codec::pack(random_matrix(s, Format::kInt4Asymmetric, false, rng));
  const std::vector<float> x(s.tokens * 96, 0);
  Activations a(s.tokens, s.cols);
  for (int64_t t = 0; t < s.tokens; ++t) isa().quantize_activations(x.data(), s.cols, t, a.view);
  EXPECT_EQ(run_a8(w, a, s.rows), std::vector<float>(s.tokens * s.rows, 0));
  EXPECT_EQ(run_f32(w, x, s.tokens, s.rows), std::vector<float>(s.tokens * s.rows, 0));
}

}  // namespace
}  // namespace packlight::kernels

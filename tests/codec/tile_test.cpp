#include "codec/tile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "codec/half.h"
#include "packlight/error.h"

namespace packlight::codec {
namespace {

ErrorCode code_of(const auto& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kInternal;
}

QuantizedMatrix shaped(int64_t rows, int64_t cols, int bits, int64_t group) {
  QuantizedMatrix m;
  m.rows = rows;
  m.cols = cols;
  m.bits = bits;
  m.group_size = group;
  return m;
}

QuantizedMatrix random_matrix(int64_t rows, int64_t cols, int bits, int64_t group, bool symmetric) {
  std::mt19937 rng(static_cast<unsigned>(rows * 131 + cols * 7 + bits + group));
  QuantizedMatrix m = shaped(rows, cols, bits, group);
  const int low = bits == 8 ? -127 : symmetric ? -8 : 0;
  const int high = bits == 8 ? 127 : symmetric ? 7 : 15;
  for (int64_t i = 0; i < rows * cols; ++i) {
    m.codes.push_back(static_cast<int8_t>(low + static_cast<int>(rng() % (high - low + 1))));
  }
  for (int64_t i = 0; i < rows * m.groups_per_row(); ++i) {
    m.scales.push_back(static_cast<uint16_t>(rng() % 0x7c00));
    if (!symmetric) m.zeros.push_back(static_cast<uint8_t>(rng() % 16));
  }
  return m;
}

TEST(Tile, Int4BytesAreWhereTheLayoutSaysTheyAre) {
  QuantizedMatrix m = shaped(17, 33, 4, 32);
  m.codes.assign(17 * 33, 0);
  m.scales.assign(17 * 2, 0x3c00);
  m.codes[3 * 33 + 2] = -8;   // step 0, byte 4*3+2, low nibble: 0
  m.codes[3 * 33 + 6] = 7;    // same byte, high nibble: 15
  m.codes[16 * 33 + 32] = 1;  // second tile, step 4, byte 0, low nibble: 9
  m.scales[16 * 2 + 1] = 0x1234;

  const EncodedTensor t = pack(m);

  ASSERT_EQ(t.data.size(), 2u * 64 * 16 / 2);
  ASSERT_EQ(t.scales.size(), 2u * 2 * 16 * 2);
  EXPECT_EQ(t.dtype, DType::kTileInt4);
  EXPECT_EQ(static_cast<int>(t.data[14]), 0xf0);
  EXPECT_EQ(static_cast<int>(t.data[0]), 0x88);
  EXPECT_EQ(static_cast<int>(t.data[512 + 4 * 64]), 0x89);
  EXPECT_EQ(static_cast<int>(t.data[512 + 4 * 64 + 4]), 0x88);  // a row that does not exist
  EXPECT_EQ(static_cast<int>(t.scales[2 * 16 * 3]), 0x34);
  EXPECT_EQ(static_cast<int>(t.scales[2 * 16 * 3 + 1]), 0x12);
  EXPECT_EQ(static_cast<int>(t.scales[2 * (16 * 3 + 1)]), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.data.data()) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.scales.data()) % 64, 0u);
}

TEST(Tile, Int8BytesAreWhereTheLayoutSaysTheyAre) {
  QuantizedMatrix m = shaped(2, 6, 8, 6);
  m.codes = {1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6};
  m.scales = {1, 2};

  const EncodedTensor t = pack(m);

  ASSERT_EQ(t.data.size(), 32u * 16);
  const auto at = [&](size_t i) { return static_cast<int8_t>(t.data[i]); };
  EXPECT_EQ(at(0), 1);
  EXPECT_EQ(at(3), 4);
  EXPECT_EQ(at(4), -1);
  EXPECT_EQ(at(64), 5);
  EXPECT_EQ(at(64 + 4 + 1), -6);
  EXPECT_EQ(at(64 + 2), 0);
}

TEST(Tile, AsymmetricCodesAreStoredAsTheyAre) {
  QuantizedMatrix m = shaped(1, 5, 4, 5);
  m.codes = {0, 15, 3, 4, 9};
  m.scales = {0x3c00};
  m.zeros = {15};

  const EncodedTensor t = pack(m);

  EXPECT_EQ(static_cast<int>(t.data[0]), 0x90);
  EXPECT_EQ(static_cast<int>(t.data[1]), 0x0f);
  ASSERT_EQ(t.zeros.size(), 16u);
  EXPECT_EQ(static_cast<int>(t.zeros[0]), 15);
  EXPECT_EQ(static_cast<int>(t.zeros[1]), 0);
}

TEST(Tile, UnpackRestoresEveryMatrixBitForBit) {
  for (const int64_t rows : {1, 15, 16, 17, 40}) {
    for (const int64_t cols : {1, 7, 31, 32, 33, 96, 130, 576}) {
      for (const int64_t group : {int64_t{32}, int64_t{64}, int64_t{128}, cols}) {
        for (const int kind : {0, 1, 2}) {
          const QuantizedMatrix m = random_matrix(rows, cols, kind == 2 ? 8 : 4, group, kind != 1);
          const EncodedTensor t = pack(m);
          const TileSizes sizes = tile_sizes(t.dtype, rows, cols, group);
          ASSERT_EQ(t.data.size(), sizes.data_bytes);
          ASSERT_EQ(t.scales.size(), sizes.scale_bytes);
          const QuantizedMatrix back = unpack(t);
          ASSERT_EQ(back.codes, m.codes) << rows << " x " << cols << " group " << group;
          ASSERT_EQ(back.scales, m.scales);
          ASSERT_EQ(back.zeros, m.zeros);
          ASSERT_EQ(back.bits, m.bits);
          ASSERT_EQ(back.group_size, m.group_size);
        }
      }
    }
  }
}

TEST(Tile, DecodesRowsExactlyAsTheFormatDefinesThem) {
  for (const int kind : {0, 1, 2}) {
    const QuantizedMatrix m = random_matrix(19, 130, kind == 2 ? 8 : 4, 64, kind != 1);
    const EncodedTensor t = pack(m);
    std::vector<float> row(130);
    for (int64_t r = 0; r < m.rows; ++r) {
      decode_tile_row(t, r, row.data());
      for (int64_t c = 0; c < m.cols; ++c) {
        const int64_t g = r * 3 + c / 64;
        const int zero = m.symmetric() ? 0 : m.zeros[g];
        ASSERT_EQ(row[c],
                  static_cast<float>(m.codes[r * m.cols + c] - zero) * f16_to_f32(m.scales[g]));
      }
    }
  }
}

TEST(Tile, F16RoundsToNearestEvenAndKeepsNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {1,        -2.5f, 1 + 0x1p-11f, 1 + 3 * 0x1p-11f,
                                     0x1p-24f, 65504, nan,          0};
  const EncodedTensor t = pack_f16(values, 2, 4);
  ASSERT_EQ(t.data.size(), 32u * 32);
  std::vector<float> row(4);

  decode_tile_row(t, 0, row.data());
  EXPECT_EQ(row, (std::vector<float>{1, -2.5f, 1, 1 + 0x1p-9f}));
  decode_tile_row(t, 1, row.data());
  EXPECT_EQ(row[0], 0x1p-24f);
  EXPECT_EQ(row[1], 65504);
  EXPECT_TRUE(std::isnan(row[2]));
}

TEST(Tile, RefusesWhatCannotBePacked) {
  const auto invalid = [](const auto& change) {
    QuantizedMatrix m = random_matrix(3, 40, 4, 32, false);
    change(m);
    EXPECT_EQ(code_of([&] { pack(m); }), ErrorCode::kInvalidArgument);
  };
  invalid([](QuantizedMatrix& m) { m.codes[5] = 16; });
  invalid([](QuantizedMatrix& m) { m.codes[5] = -1; });
  invalid([](QuantizedMatrix& m) { m.zeros[5] = 16; });
  invalid([](QuantizedMatrix& m) { m.zeros.pop_back(); });
  invalid([](QuantizedMatrix& m) { m.scales.pop_back(); });
  invalid([](QuantizedMatrix& m) { m.codes.push_back(0); });
  invalid([](QuantizedMatrix& m) { m.bits = 3; });
  invalid([](QuantizedMatrix& m) { m.bits = 8; });  // INT8 with zero points
  invalid([](QuantizedMatrix& m) { m.group_size = 20; });
  invalid([](QuantizedMatrix& m) { m.group_size = 0; });
  invalid([](QuantizedMatrix& m) { m.rows = 0; });
  invalid([](QuantizedMatrix& m) { m.cols = -1; });
  EXPECT_EQ(code_of([] { pack_f16(std::vector<float>{65520}, 1, 1); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { pack_f16(std::vector<float>{1}, 1, 2); }), ErrorCode::kInvalidArgument);
}

TEST(Tile, RefusesHostileSizes) {
  const int64_t huge = int64_t{1} << 40;
  EXPECT_EQ(code_of([&] { tile_sizes(DType::kTileF16, huge, huge, 0); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(
      code_of([&] { tile_sizes(DType::kTileInt4, std::numeric_limits<int64_t>::max(), 1, 1); }),
      ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { tile_sizes(DType::kF32, 1, 1, 1); }), ErrorCode::kInvalidArgument);
  EncodedTensor t = pack(random_matrix(3, 40, 4, 32, true));
  float row[40];
  EXPECT_EQ(code_of([&] { decode_tile_row(t, 3, row); }), ErrorCode::kInvalidArgument);
  t.data = t.data.first(t.data.size() - 1);
  EXPECT_EQ(code_of([&] { decode_tile_row(t, 0, row); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { unpack(t); }), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace packlight::codec

#include "codec/ggml_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <string>

#include "codec/half.h"
#include "error_code.h"

namespace packlight::codec {
namespace {

using test::expect_error;

DType dtype_named(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(DType::kTileF16); ++i) {
    if (info(static_cast<DType>(i)).name == name) return static_cast<DType>(i);
  }
  ADD_FAILURE() << "no dtype " << name;
  return DType::kF32;
}

// One record of ggml_golden.bin (tests/oracle/make_ggml_golden.py).
struct Golden {
  uint32_t blocks, elements;
  std::vector<std::byte> bytes;
  std::vector<float> values;
};

class GoldenReader {
 public:
  GoldenReader() : in_(PACKLIGHT_SOURCE_DIR "/tests/codec/ggml_golden.bin", std::ios::binary) {}

  std::map<std::string, Golden> read_all() {
    std::map<std::string, Golden> all;
    char name[9] = {};
    while (in_.read(name, 8)) {
      Golden g;
      in_.read(reinterpret_cast<char*>(&g.blocks), 4);
      in_.read(reinterpret_cast<char*>(&g.elements), 4);
      const bool encoder = std::string(name).starts_with("enc:");
      g.values.resize(size_t{g.blocks} * g.elements);
      g.bytes.resize(size_t{g.blocks} * info(dtype_named(encoder ? name + 4 : name)).block_bytes);
      if (encoder) read_values(g);
      in_.read(reinterpret_cast<char*>(g.bytes.data()),
               static_cast<std::streamsize>(g.bytes.size()));
      if (!encoder) read_values(g);
      all[name] = std::move(g);
    }
    return all;
  }

 private:
  void read_values(Golden& g) {
    in_.read(reinterpret_cast<char*>(g.values.data()),
             static_cast<std::streamsize>(g.values.size() * 4));
  }
  std::ifstream in_;
};

class GgmlDecodeTest : public testing::TestWithParam<const char*> {};

TEST_P(GgmlDecodeTest, EqualsGgufPackageBitForBit) {
  const auto golden = GoldenReader().read_all();
  ASSERT_TRUE(golden.contains(GetParam()));
  const Golden& g = golden.at(GetParam());
  std::vector<float> got(g.values.size());
  decode_ggml_row(dtype_named(GetParam()), g.bytes.data(), static_cast<int64_t>(got.size()),
                  got.data());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(g.values[i]))
        << "element " << i << ": got " << got[i] << ", want " << g.values[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GgmlDecodeTest,
                         testing::Values("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K",
                                         "Q6_K"));

TEST(GgmlDecodeErrorTest, RefusesOtherTypesAndPartBlocks) {
  std::byte bytes[64] = {};
  float out[64];
  expect_error(ErrorCode::kInvalidArgument, {"F16"},
               [&] { decode_ggml_row(DType::kF16, bytes, 32, out); });
  expect_error(ErrorCode::kInvalidArgument, {"48", "Q4_0"},
               [&] { decode_ggml_row(DType::kQ4_0, bytes, 48, out); });
}

class GgmlEncodeTest : public testing::TestWithParam<const char*> {};

TEST_P(GgmlEncodeTest, EqualsReferenceQuantizerBitForBit) {
  const auto golden = GoldenReader().read_all();
  const Golden& g = golden.at(std::string("enc:") + GetParam());
  EXPECT_EQ(encode_ggml_rows(dtype_named(GetParam()), g.values, 32), g.bytes);
}

TEST_P(GgmlEncodeTest, RefusesWhatNoBlockCanHold) {
  const DType dtype = dtype_named(GetParam());
  std::vector<float> values(64, 1.0f);
  expect_error(ErrorCode::kInvalidArgument, {"blocks of 32"},
               [&] { encode_ggml_rows(dtype, values, 48); });
  values[40] = std::numeric_limits<float>::quiet_NaN();
  expect_error(ErrorCode::kInvalidArgument, {"element 40", "nan"},
               [&] { encode_ggml_rows(dtype, values, 32); });
  values[40] = 1e9f;
  expect_error(ErrorCode::kInvalidArgument, {"65504"},
               [&] { encode_ggml_rows(dtype, values, 32); });
}

TEST_P(GgmlEncodeTest, SurvivesScalesWhoseInverseIsInfinite) {
  const std::vector<float> values(32, 1e-42f);
  const auto blocks = encode_ggml_rows(dtype_named(GetParam()), values, 32);
  std::vector<float> decoded(32);
  decode_ggml_row(dtype_named(GetParam()), blocks.data(), 32, decoded.data());
  for (const float v : decoded) EXPECT_EQ(v, 0.0f);  // below F16's range
}

INSTANTIATE_TEST_SUITE_P(Types, GgmlEncodeTest, testing::Values("Q4_0", "Q4_1", "Q8_0"));

TEST(GgmlEncodeErrorTest, OtherTypesHaveNoEncoder) {
  const std::vector<float> values(256, 1.0f);
  expect_error(ErrorCode::kUnsupported, {"Q6_K"},
               [&] { encode_ggml_rows(DType::kQ6_K, values, 256); });
}

QuantizedMatrix make_matrix(int64_t rows, int64_t cols, int bits, int64_t group, bool symmetric) {
  QuantizedMatrix m;
  m.rows = rows;
  m.cols = cols;
  m.bits = bits;
  m.group_size = group;
  for (int64_t i = 0; i < rows * cols; ++i) {
    const int spread = static_cast<int>(i * 37 % 256);
    m.codes.push_back(static_cast<int8_t>(bits == 8 ? std::max(spread - 128, -127)
                                                    : spread % 16 - (symmetric ? 8 : 0)));
  }
  for (int64_t i = 0; i < rows * m.groups_per_row(); ++i) {
    m.scales.push_back(f32_to_f16(0.01f * static_cast<float>(i + 1)));
    if (!symmetric) m.zeros.push_back(static_cast<uint8_t>(i % 16));
  }
  return m;
}

// What the matrix stands for, from its definition.
std::vector<float> values_of(const QuantizedMatrix& m) {
  std::vector<float> values;
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; ++c) {
      const int64_t group = r * m.groups_per_row() + c / m.group_size;
      const int zero = m.symmetric() ? 0 : m.zeros[group];
      values.push_back(static_cast<float>(m.codes[r * m.cols + c] - zero) *
                       f16_to_f32(m.scales[group]));
    }
  }
  return values;
}

std::vector<float> decode_all(DType dtype, const std::vector<std::byte>& blocks, int64_t elements) {
  std::vector<float> values(elements);
  decode_ggml_row(dtype, blocks.data(), elements, values.data());
  return values;
}

TEST(ToGgmlBlocksTest, SymmetricMatricesOfEveryGroupingAreLossless) {
  for (const int bits : {4, 8}) {
    // 576 = 4 * 128 + 64: the ragged last group too.
    for (const auto& [cols, group] :
         {std::pair(96, 32), {128, 64}, {576, 128}, {96, 96}, {64, 128}}) {
      const QuantizedMatrix m = make_matrix(3, cols, bits, group, true);
      const DType dtype = bits == 4 ? DType::kQ4_0 : DType::kQ8_0;
      EXPECT_EQ(decode_all(dtype, to_ggml_blocks(m, dtype), m.rows * cols), values_of(m))
          << bits << ' ' << group;
    }
  }
}

TEST(ToGgmlBlocksTest, AsymmetricIsLosslessWhereTheMinimumIsExact) {
  QuantizedMatrix m = make_matrix(2, 64, 4, 32, false);
  for (uint16_t& scale : m.scales) scale = f32_to_f16(0.0625f);  // times 0..15 is exact
  EXPECT_EQ(decode_all(DType::kQ4_1, to_ggml_blocks(m, DType::kQ4_1), 128), values_of(m));
  m.scales[3] = 0x3555;  // 1365/4096: times 7 needs 14 bits
  m.zeros[3] = 7;
  expect_error(ErrorCode::kUnsupported, {"row 1 group 1", "symmetric"},
               [&] { to_ggml_blocks(m, DType::kQ4_1); });
}

TEST(ToGgmlBlocksTest, SaysWhichSettingWouldBeLossless) {
  const auto convert = [](const QuantizedMatrix& m, DType dtype) {
    return [m, dtype] { to_ggml_blocks(m, dtype); };
  };
  expect_error(ErrorCode::kUnsupported, {"Q4_0", "symmetric"},
               convert(make_matrix(1, 64, 4, 32, false), DType::kQ4_0));
  expect_error(ErrorCode::kUnsupported, {"Q8_0"},
               convert(make_matrix(1, 64, 4, 32, true), DType::kQ8_0));
  expect_error(ErrorCode::kUnsupported, {"Q6_K"},
               convert(make_matrix(1, 64, 4, 32, true), DType::kQ6_K));
  expect_error(ErrorCode::kUnsupported, {"48 columns"},
               convert(make_matrix(1, 48, 4, 48, true), DType::kQ4_0));
  expect_error(ErrorCode::kUnsupported, {"group size 40"},
               convert(make_matrix(1, 64, 4, 40, true), DType::kQ4_0));
}

TEST(ToGgmlBlocksTest, RefusesBrokenMatrices) {
  QuantizedMatrix m = make_matrix(2, 64, 4, 32, true);
  m.codes[70] = 8;
  expect_error(ErrorCode::kInvalidArgument, {"row 1 column 6", "8"},
               [&] { to_ggml_blocks(m, DType::kQ4_0); });
  m.scales.pop_back();
  expect_error(ErrorCode::kInvalidArgument, {"3 scales"}, [&] { to_ggml_blocks(m, DType::kQ4_0); });
}

}  // namespace
}  // namespace packlight::codec

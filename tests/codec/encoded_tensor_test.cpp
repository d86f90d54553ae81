#include "codec/encoded_tensor.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "codec/ggml_blocks.h"
#include "codec/half.h"
#include "codec/quantized_matrix.h"
#include "codec/tile.h"
#include "error_code.h"

namespace packlight::codec {
namespace {

using test::expect_error;

template <class T>
EncodedTensor view(DType dtype, int64_t rows, int64_t cols, const std::vector<T>& values) {
  EncodedTensor t;
  t.dtype = dtype;
  t.rows = rows;
  t.cols = cols;
  t.data = std::as_bytes(std::span(values));
  return t;
}

std::vector<float> decode(const EncodedTensor& t, int64_t row0, int64_t row1) {
  std::vector<float> out((row1 - row0) * t.cols);
  decode_rows(t, row0, row1, out.data());
  return out;
}

TEST(DecodeRowsTest, DenseTypes) {
  const std::vector<float> want = {-1.5f, 0.25f, 3.0f, 0.0f, 65504.0f, 0x1p-24f};
  std::vector<double> f64(want.begin(), want.end());
  std::vector<uint16_t> f16, bf16;
  for (const float v : want) {
    f16.push_back(f32_to_f16(v));
    bf16.push_back(f32_to_bf16(v));
  }
  EXPECT_EQ(decode(view(DType::kF32, 2, 3, want), 0, 2), want);
  EXPECT_EQ(decode(view(DType::kF64, 2, 3, f64), 0, 2), want);
  EXPECT_EQ(decode(view(DType::kF16, 2, 3, f16), 0, 2), want);
  std::vector<float> rounded;
  for (const uint16_t v : bf16) rounded.push_back(bf16_to_f32(v));
  EXPECT_EQ(decode(view(DType::kBF16, 2, 3, bf16), 0, 2), rounded);
  EXPECT_EQ(decode(view(DType::kF32, 2, 3, want), 1, 2),
            (std::vector<float>{0.0f, 65504.0f, 0x1p-24f}));
  EXPECT_TRUE(decode(view(DType::kF32, 2, 3, want), 1, 1).empty());
}

TEST(DecodeRowsTest, MisalignedBytesDecodeTheSame) {
  const std::vector<float> want = {1.0f, -2.0f};
  std::vector<std::byte> bytes(1 + 8);
  std::memcpy(bytes.data() + 1, want.data(), 8);
  EncodedTensor t = view(DType::kF32, 1, 2, want);
  t.data = std::span(bytes).subspan(1);
  EXPECT_EQ(decode(t, 0, 1), want);
}

TEST(DecodeRowsTest, GgmlRows) {
  std::vector<float> values;
  for (int i = 0; i < 128; ++i) values.push_back(static_cast<float>(i % 16 - 8) * 0.5f);
  const auto blocks = encode_ggml_rows(DType::kQ4_0, values, 64);
  const EncodedTensor t = view(DType::kQ4_0, 2, 64, blocks);
  EXPECT_EQ(decode(t, 1, 2), std::vector<float>(values.begin() + 64, values.end()));
}

TEST(DecodeRowsTest, TileRows) {
  QuantizedMatrix m;
  m.rows = 17;
  m.cols = 32;
  for (int i = 0; i < 17 * 32; ++i) m.codes.push_back(static_cast<int8_t>(i % 16 - 8));
  m.scales.assign(17, f32_to_f16(0.5f));
  const std::vector<float> row = decode(pack(m), 16, 17);
  for (int c = 0; c < 32; ++c)
    EXPECT_EQ(row[c], static_cast<float>((16 * 32 + c) % 16 - 8) * 0.5f) << c;
}

// GGUF keeps element i of a head's first half at 2i and of its second at 2i + 1.
TEST(DecodeRowsTest, RotaryRowsComeInTheUsualOrder) {
  const std::vector<float> stored = {0, 2, 1, 3, 10, 12, 11, 13};
  EncodedTensor t = view(DType::kF32, 8, 1, stored);
  t.rotary_interleaved_heads = 2;
  EXPECT_EQ(decode(t, 0, 8), (std::vector<float>{0, 1, 2, 3, 10, 11, 12, 13}));
  EXPECT_EQ(decode(t, 5, 7), (std::vector<float>{11, 12}));
}

TEST(DecodeRowsTest, RotaryBiasIsReorderedAlongItsRow) {
  const std::vector<float> stored = {0, 2, 1, 3, 10, 12, 11, 13};
  EncodedTensor t = view(DType::kF32, 1, 8, stored);
  t.rotary_interleaved_heads = 2;
  EXPECT_EQ(decode(t, 0, 1), (std::vector<float>{0, 1, 2, 3, 10, 11, 12, 13}));
}

TEST(DecodeRowsTest, RefusesWhatIsNoWeightOrNoRow) {
  const std::vector<int32_t> integers(6);
  float out[8];
  expect_error(ErrorCode::kUnsupported, {"I32"},
               [&] { decode_rows(view(DType::kI32, 2, 3, integers), 0, 1, out); });
  const std::vector<float> values(6);
  const EncodedTensor t = view(DType::kF32, 2, 3, values);
  expect_error(ErrorCode::kInvalidArgument, {"1..3"}, [&] { decode_rows(t, 1, 3, out); });
  expect_error(ErrorCode::kInvalidArgument, {"-1"}, [&] { decode_rows(t, -1, 1, out); });
  EncodedTensor odd = t;
  odd.rotary_interleaved_heads = 2;  // heads of one row: no halves
  expect_error(ErrorCode::kInvalidArgument, {"2 heads"}, [&] { decode_rows(odd, 0, 1, out); });
}

TEST(CheckSizesTest, AcceptsExactSizesOnly) {
  const std::vector<std::byte> bytes(4096);
  const auto sized = [&](DType dtype, int64_t rows, int64_t cols, size_t size) {
    EncodedTensor t;
    t.dtype = dtype;
    t.rows = rows;
    t.cols = cols;
    t.data = std::span(bytes).first(size);
    return t;
  };
  check_sizes(sized(DType::kF32, 2, 3, 24), "w");
  check_sizes(sized(DType::kQ4_0, 2, 64, 72), "w");
  check_sizes(sized(DType::kQ6_K, 1, 256, 210), "w");
  check_sizes(sized(DType::kTileF16, 16, 32, 1024), "w");
  expect_error(ErrorCode::kCorrupt, {"'w'", "23", "24"},
               [&] { check_sizes(sized(DType::kF32, 2, 3, 23), "w"); });
  expect_error(ErrorCode::kCorrupt, {"'w'", "25", "24"},
               [&] { check_sizes(sized(DType::kF32, 2, 3, 25), "w"); });
  expect_error(ErrorCode::kCorrupt, {"'w'", "48"},
               [&] { check_sizes(sized(DType::kQ4_0, 1, 48, 27), "w"); });
  expect_error(ErrorCode::kCorrupt, {"'w'"},
               [&] { check_sizes(sized(DType::kTileF16, 16, 32, 1023), "w"); });
}

TEST(CheckSizesTest, RefusesNegativeAndOverflowingShapes) {
  EncodedTensor t;
  t.rows = -1;
  t.cols = 4;
  expect_error(ErrorCode::kCorrupt, {"-1"}, [&] { check_sizes(t, "w"); });
  for (const DType dtype : {DType::kF32, DType::kQ4_0, DType::kTileInt8}) {
    t.dtype = dtype;
    t.rows = t.cols = int64_t{1} << 32;  // 2^64 elements would wrap to 0 bytes
    t.group_size = 32;
    expect_error(ErrorCode::kCorrupt, {"'w'"}, [&] { check_sizes(t, "w"); });
  }
}

TEST(CheckSizesTest, TilesNeedTheirScalesAndZeros) {
  QuantizedMatrix m;
  m.rows = 2;
  m.cols = 64;
  m.codes.assign(128, 3);
  m.scales.assign(4, f32_to_f16(1.0f));
  m.zeros.assign(4, 5);
  EncodedTensor t = pack(m);
  check_sizes(t, "w");
  EncodedTensor broken = t;
  broken.scales = t.scales.first(t.scales.size() - 1);
  expect_error(ErrorCode::kCorrupt, {"'w'", "scales"}, [&] { check_sizes(broken, "w"); });
  broken = t;
  broken.zeros = t.zeros.first(t.zeros.size() - 1);
  expect_error(ErrorCode::kCorrupt, {"'w'", "zeros"}, [&] { check_sizes(broken, "w"); });
  broken = t;
  broken.group_size = 0;
  expect_error(ErrorCode::kCorrupt, {"'w'", "group size 0"}, [&] { check_sizes(broken, "w"); });
}

TEST(DTypeTest, BlocksHaveTheSizesOfTheirFormats) {
  const std::array<std::pair<DType, std::pair<int, int>>, 8> want = {{{DType::kQ4_0, {32, 18}},
                                                                      {DType::kQ4_1, {32, 20}},
                                                                      {DType::kQ5_0, {32, 22}},
                                                                      {DType::kQ5_1, {32, 24}},
                                                                      {DType::kQ8_0, {32, 34}},
                                                                      {DType::kQ4_K, {256, 144}},
                                                                      {DType::kQ5_K, {256, 176}},
                                                                      {DType::kQ6_K, {256, 210}}}};
  for (const auto& [dtype, size] : want) {
    EXPECT_EQ(info(dtype).block_elements, size.first) << info(dtype).name;
    EXPECT_EQ(info(dtype).block_bytes, size.second) << info(dtype).name;
  }
}

}  // namespace
}  // namespace packlight::codec

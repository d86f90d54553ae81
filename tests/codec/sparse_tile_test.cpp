#include "codec/sparse_tile.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "codec/tile.h"
#include "error_code.h"

namespace packlight::codec {
namespace {

using test::expect_error;

struct Shape {
  int64_t rows, cols, group;
  bool symmetric;
};

constexpr Shape kShapes[] = {{16, 32, 32, true},   {19, 130, 32, true}, {33, 200, 64, false},
                             {5, 37, 37, false},   {1, 8, 8, true},     {48, 96, 96, false},
                             {17, 576, 128, true}, {40, 64, 32, false}};

// `of` consecutive columns keep `keep` codes, at random places; of == 0: each is kept with chance
// `chance`.
EncodedTensor pruned(const Shape& s, double chance, int keep = 0, int of = 0) {
  std::mt19937 rng(static_cast<unsigned>(s.rows * 31 + s.cols));
  QuantizedMatrix m;
  m.rows = s.rows, m.cols = s.cols, m.group_size = s.group;
  m.codes.resize(s.rows * s.cols);
  for (int64_t i = 0; i < s.rows * m.groups_per_row(); ++i) {
    m.scales.push_back(static_cast<uint16_t>(rng() % 0x7c00));
    if (!s.symmetric) m.zeros.push_back(static_cast<uint8_t>(rng() % 16));
  }
  for (int64_t r = 0; r < s.rows; ++r) {
    int left = 0;
    for (int64_t c = 0; c < s.cols; ++c) {
      const int zero = s.symmetric ? 0 : m.zeros[r * m.groups_per_row() + c / s.group];
      if (of > 0 && c % of == 0) left = keep;
      const int64_t places = of > 0 ? of - c % of : 1;
      const bool stays =
          of > 0 ? static_cast<int64_t>(rng() % places) < left : rng() % 1000 < chance * 1000;
      if (stays && of > 0) --left;
      const int code = (s.symmetric ? -8 : 0) + static_cast<int>(rng() % 16);
      m.codes[r * s.cols + c] = static_cast<int8_t>(stays ? code : zero);
    }
  }
  return pack(m);
}

std::vector<std::byte> copy_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

void expect_restored(const EncodedTensor& dense, const SparseTiles& sparse) {
  check_sparse(sparse, "w");
  const EncodedTensor back = expand_tiles(sparse, "w");
  EXPECT_EQ(copy_of(back.data), copy_of(dense.data));
  EXPECT_EQ(copy_of(back.scales), copy_of(dense.scales));
  EXPECT_EQ(copy_of(back.zeros), copy_of(dense.zeros));
  EXPECT_EQ(back.group_size, dense.group_size);
}

TEST(SparseTile, ABitmaskHoldsAnyTilesBitForBit) {
  for (const Shape& s : kShapes) {
    for (const double chance : {0.0, 0.02, 0.5, 0.9, 1.0}) {
      SCOPED_TRACE(testing::Message() << s.rows << " x " << s.cols << " kept " << chance);
      const EncodedTensor dense = pruned(s, chance);
      expect_restored(dense, *compress_tiles(dense, Sparsity::kBitmask));
    }
  }
}

TEST(SparseTile, TwoOfFourHoldsEveryChoiceOfTwoColumnsAndFewer) {
  for (const Shape& s : kShapes) {
    if (!s.symmetric && s.cols % kColumnAlign != 0)
      continue;  // codes of the padding are kept there
    for (const int keep : {0, 1, 2}) {
      SCOPED_TRACE(testing::Message() << s.rows << " x " << s.cols << " kept " << keep);
      const EncodedTensor dense = pruned(s, 0, keep, 4);
      expect_restored(dense, *compress_tiles(dense, Sparsity::kTwoOfFour));
    }
  }
}

TEST(SparseTile, TwoOfFourDoesNotHoldThree) {
  QuantizedMatrix m;
  m.rows = 16, m.cols = 32;
  m.codes.assign(16 * 32, 0);
  m.scales.assign(16, 0x3c00);
  for (const int64_t c : {24, 25, 27}) m.codes[3 * 32 + c] = 1;
  EXPECT_FALSE(compress_tiles(pack(m), Sparsity::kTwoOfFour).has_value());
  m.codes[3 * 32 + 25] = 0;
  EXPECT_TRUE(compress_tiles(pack(m), Sparsity::kTwoOfFour).has_value());
}

TEST(SparseTile, BytesAreWhereTheDrawingSaysTheyAre) {
  QuantizedMatrix m;
  m.rows = 16, m.cols = 32;
  m.codes.assign(16 * 32, 0);
  m.scales.assign(16, 0x3c00);
  m.codes[5 * 32 + 2] = 3;    // u = 11 = 3 ^ 8: byte 4*5 + 2 of step 0, low
  m.codes[5 * 32 + 3] = -8;   // u = 0 = 8 ^ 8: byte 4*5 + 3 of step 0, low
  m.codes[5 * 32 + 13] = -1;  // u = 7 = 15 ^ 8: byte 4*5 + 1 of step 1, high

  const SparseTiles bitmask = *compress_tiles(pack(m), Sparsity::kBitmask);
  const SparseTiles pairs = *compress_tiles(pack(m), Sparsity::kTwoOfFour);

  uint64_t words[10];  // four steps of two masks, two offsets
  ASSERT_EQ(bitmask.data.size(), sizeof words + 2 + kSparseGuardBytes);
  std::memcpy(words, bitmask.data.data(), sizeof words);
  EXPECT_EQ(words[0], uint64_t{3} << 22);
  EXPECT_EQ(words[3], uint64_t{1} << 21);
  EXPECT_EQ(words[8], 0u);
  EXPECT_EQ(words[9], 2u);
  EXPECT_EQ(bitmask.data[80], std::byte{0xf3});
  EXPECT_EQ(bitmask.data[81], std::byte{0x08});
  ASSERT_EQ(pairs.data.size(), 4u * 48);
  EXPECT_EQ(pairs.data[10], std::byte{0x03});
  EXPECT_EQ(pairs.data[11], std::byte{0x08});
  EXPECT_EQ(pairs.data[32 + 5], std::byte{(2 + 4 * 3) | (0 + 4 * 1) << 4});
  EXPECT_EQ(pairs.data[48 + 10], std::byte{0xf0} & pairs.data[48 + 10]);
  EXPECT_EQ(pairs.data[48 + 32 + 5] >> 4, std::byte{1 + 4 * 2});
}

// INT4 in groups of 32 takes 4.5 bits a weight; half of them 3.5 and what the longer side of a tile
// adds.
TEST(SparseTile, HalfOfTheWeightsTakeAtMostFourFifthsOfTheBytes) {
  const Shape s{576, 1536, 32, true};
  const EncodedTensor anywhere = pruned(s, 0.5), in_fours = pruned(s, 0, 2, 4);
  const double bitmask =
      static_cast<double>(compress_tiles(anywhere, Sparsity::kBitmask)->size_bytes());
  const double pairs =
      static_cast<double>(compress_tiles(in_fours, Sparsity::kTwoOfFour)->size_bytes());
  EXPECT_LE(bitmask, 0.80 * static_cast<double>(anywhere.size_bytes()));
  EXPECT_LE(pairs, 0.78 * static_cast<double>(in_fours.size_bytes()));
}

class HostileSparseTile : public testing::Test {
 protected:
  // What check_sparse() and expand_tiles() say of a matrix with changed data.
  static void expect_refused(SparseTiles tiles, std::string part, const auto& edit) {
    std::vector<std::byte> bytes = copy_of(tiles.data);
    edit(bytes);
    tiles.data = bytes;
    expect_error(ErrorCode::kCorrupt, {"'w'", part}, [&] { check_sparse(tiles, "w"); });
    expect_error(ErrorCode::kCorrupt, {"'w'", part}, [&] { expand_tiles(tiles, "w"); });
  }
  static void put(std::vector<std::byte>& bytes, size_t at, uint64_t word) {
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }

  EncodedTensor dense_ = pruned({48, 64, 32, true}, 0.5);
  EncodedTensor in_fours_ = pruned({48, 64, 32, true}, 0, 2, 4);
  SparseTiles bitmask_ = *compress_tiles(dense_, Sparsity::kBitmask);
  SparseTiles pairs_ = *compress_tiles(in_fours_, Sparsity::kTwoOfFour);
  static constexpr size_t kOffsetsAt = 3 * 8 * 16;
};

TEST_F(HostileSparseTile, MasksThatCountOtherwiseAreRefused) {
  expect_refused(bitmask_, "masks", [](auto& b) { put(b, 0, ~uint64_t{0}); });
  expect_refused(bitmask_, "masks", [](auto& b) {
    for (size_t i = 0; i < 128; ++i) b[i] = std::byte{0};
  });
  expect_refused(bitmask_, "masks", [](auto& b) {  // of the last tile
    for (size_t i = kOffsetsAt - 128; i < kOffsetsAt; ++i) b[i] = std::byte{255};
  });
}

TEST_F(HostileSparseTile, OffsetsOutOfOrderAreRefused) {
  uint64_t second;
  std::memcpy(&second, bitmask_.data.data() + kOffsetsAt + 8, 8);
  for (const uint64_t other :
       {uint64_t{0}, second - 1, second + 1, ~uint64_t{0}, uint64_t{1} << 63})
    expect_refused(bitmask_, "masks", [&](auto& b) { put(b, kOffsetsAt + 8, other); });
  expect_refused(bitmask_, "masks", [](auto& b) { put(b, kOffsetsAt, 1); });
  for (const uint64_t last : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}, uint64_t{1} << 32})
    expect_refused(bitmask_, "", [&](auto& b) { put(b, kOffsetsAt + 24, last); });
}

TEST_F(HostileSparseTile, EveryTruncationIsRefused) {
  for (const SparseTiles& whole : {bitmask_, pairs_}) {
    for (size_t size = 0; size < whole.data.size(); ++size) {
      const std::vector<std::byte> part =
          copy_of(whole.data.first(size));  // a sanitizer sees its end
      SparseTiles cut = whole;
      cut.data = part;
      expect_error(ErrorCode::kCorrupt, {"'w'", "bytes"}, [&] { check_sparse(cut, "w"); });
    }
    expect_refused(whole, "bytes", [](auto& b) { b.resize(b.size() + 1); });
  }
}

TEST_F(HostileSparseTile, PositionsOutOfOrderAreRefused) {
  for (const int bad : {0x00, 0x05, 0x0a, 0x0f, 0x01, 0x06, 0x0b}) {
    for (const int shift : {0, 4}) {
      expect_refused(pairs_, "positions", [&](auto& b) {
        const std::byte other = std::byte{0x0e} << (4 - shift);
        b[47] = other | std::byte(bad << shift);
      });
    }
  }
}

TEST_F(HostileSparseTile, OtherSizesOfScalesAreRefused) {
  for (SparseTiles tiles : {bitmask_, pairs_}) {
    tiles.scales = tiles.scales.first(tiles.scales.size() - 2);
    expect_error(ErrorCode::kCorrupt, {"'w'"}, [&] { check_sparse(tiles, "w"); });
  }
}

TEST(SparseTile, OtherTilesHaveNoCompressedForm) {
  const EncodedTensor f16 = pack_f16(std::vector<float>(64), 1, 64);
  expect_error(ErrorCode::kInvalidArgument, {"TILE_F16"},
               [&] { compress_tiles(f16, Sparsity::kBitmask); });
}

}  // namespace
}  // namespace packlight::codec

#include <cstring>

#include "codec/sparse_tile.h"
#include "kernels/isa_test.h"

namespace packlight::kernels {
namespace {

using codec::Sparsity;

struct Case {
  int64_t rows, cols, group;
  bool symmetric;
};

constexpr Case kCases[] = {{16, 32, 32, true},  {40, 130, 32, true},   {33, 200, 64, false},
                           {5, 37, 37, false},  {17, 576, 576, false}, {64, 1536, 32, true},
                           {50, 96, 32, false}, {20, 160, 128, true}};

// kTwoOfFour: two of each four columns; else each code stays with the chance of its row: none, all,
// or something between.
codec::EncodedTensor random_pruned(const Case& s, Sparsity form, std::mt19937& rng) {
  codec::QuantizedMatrix m;
  m.rows = s.rows, m.cols = s.cols, m.group_size = s.group;
  m.scales.assign(s.rows * m.groups_per_row(), 0x3c00);
  if (!s.symmetric) {
    for (size_t i = 0; i < m.scales.size(); ++i) m.zeros.push_back(rng() % 16);
  }
  for (int64_t r = 0; r < s.rows; ++r) {
    int64_t pair[2] = {0, 1};
    for (int64_t c = 0; c < s.cols; ++c) {
      const int zero = s.symmetric ? 0 : m.zeros[r * m.groups_per_row() + c / s.group];
      if (c % 4 == 0) {
        pair[0] = static_cast<int64_t>(rng() % 4);
        pair[1] = (pair[0] + 1 + static_cast<int64_t>(rng() % 3)) % 4;
      }
      const bool stays = form == Sparsity::kTwoOfFour ? c % 4 == pair[0] || c % 4 == pair[1]
                                                      : static_cast<int64_t>(rng() % 7) < r % 8;
      const int code = (s.symmetric ? -8 : 0) + static_cast<int>(rng() % 16);
      m.codes.push_back(static_cast<int8_t>(stays ? code : zero));
    }
  }
  return codec::pack(m);
}

class SparseTest : public IsaTest {
 protected:
  // Calls use(dense, sparse) for every case and form that holds it.
  static void for_all(const auto& use) {
    std::mt19937 rng(1);
    for (const Case& s : kCases) {
      for (const Sparsity form : {Sparsity::kBitmask, Sparsity::kTwoOfFour}) {
        const codec::EncodedTensor dense = random_pruned(s, form, rng);
        const auto sparse = codec::compress_tiles(dense, form);
        if (!sparse) {  // codes of an asymmetric matrix's padding are kept
          ASSERT_FALSE(s.symmetric || s.cols % codec::kColumnAlign == 0);
          continue;
        }
        SCOPED_TRACE(testing::Message()
                     << s.rows << " x " << s.cols << " form " << static_cast<int>(form));
        use(dense, *sparse);
      }
    }
  }
};
PACKLIGHT_EVERY_ISA(SparseTest);

TEST_P(SparseTest, ExpandsToTheVeryBytes) {
  for_all([&](const codec::EncodedTensor& dense, const codec::SparseTiles& sparse) {
    const int64_t tiles = codec::row_tiles(dense.rows);
    const size_t tile_bytes = dense.data.size() / tiles;
    constexpr uint8_t kUntouched = 0x5a;
    for (const int64_t first : {int64_t{0}, tiles / 2, tiles - 1}) {
      std::vector<uint8_t> out((tiles - first) * tile_bytes + 64, kUntouched);
      isa().expand_tiles(sparse, first, tiles, out.data());
      for (size_t i = 0; i < out.size(); ++i) {
        const size_t at = first * tile_bytes + i;
        const int want = at < dense.data.size() ? static_cast<int>(dense.data[at]) : kUntouched;
        ASSERT_EQ(out[i], want) << "tile " << first << " byte " << i;
      }
    }
  });
}

// The values end kSparseGuardBytes before the data does: nothing behind that is read. A sanitizer
// sees what a copy of just that size does not hold.
TEST_P(SparseTest, ReadsNothingBehindTheData) {
  for_all([&](const codec::EncodedTensor& dense, codec::SparseTiles sparse) {
    const std::vector<std::byte> copy(sparse.data.begin(), sparse.data.end());
    sparse.data = copy;
    std::vector<uint8_t> out(dense.data.size());
    isa().expand_tiles(sparse, 0, codec::row_tiles(dense.rows), out.data());
    EXPECT_EQ(std::memcmp(out.data(), dense.data.data(), out.size()), 0);
  });
}

}  // namespace
}  // namespace packlight::kernels

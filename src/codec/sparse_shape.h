#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "codec/sparse_tile.h"
#include "codec/tile.h"

// What writing and reading codec::SparseTiles have in common; for their two files alone.

namespace packlight::codec {

inline constexpr int64_t kStepBytes = 64;  // of dense tiles
inline constexpr uint64_t kOffsetBytes = 8;

inline uint64_t load_u64(const std::byte* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

inline void store_u64(std::byte* p, uint64_t value) { std::memcpy(p, &value, sizeof value); }

// Where the parts of a matrix's data lie.
struct SparseShape {
  int64_t tiles, steps;  // steps of one row tile
  uint64_t mask_bytes, offsets_at, values_at;

  SparseShape(int64_t rows, int64_t cols)
      : tiles(row_tiles(rows)),
        steps(padded_cols(cols) / kStepColumns),
        mask_bytes(static_cast<uint64_t>(tiles) * steps * kStepMaskBytes),
        offsets_at(mask_bytes),
        values_at(offsets_at + (tiles + 1) * kOffsetBytes) {}
};

// The zero points of the 16 rows at a step; 8 when symmetric.
class ZeroPoints {
 public:
  ZeroPoints(std::span<const std::byte> zeros, int64_t cols, int64_t group_size)
      : zeros_(zeros), group_size_(group_size), groups_((cols + group_size - 1) / group_size) {
    eight_.fill(std::byte{8});
  }
  const std::byte* at(int64_t tile, int64_t step) const {
    if (zeros_.empty()) return eight_.data();
    const int64_t group = std::min(step * kStepColumns / group_size_, groups_ - 1);
    return zeros_.data() + (tile * groups_ + group) * kTileRows;
  }

 private:
  std::span<const std::byte> zeros_;
  int64_t group_size_, groups_;
  std::array<std::byte, kTileRows> eight_;
};

// The bytes of a step with everything that is not kept 0; XOR undoes itself.
inline void xor_zeros(const std::byte* from, const std::byte* zeros, std::byte* to) {
  for (int i = 0; i < kStepBytes; ++i) {
    const auto zero = static_cast<unsigned>(zeros[i / 4]);
    to[i] = from[i] ^ static_cast<std::byte>(zero * 17);  // in both halves
  }
}

}  // namespace packlight::codec

#include "codec/sparse_tile.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "base/fail.h"
#include "codec/tile.h"

namespace packlight::codec {
namespace {

constexpr int64_t kStepBytes = 64;  // of dense tiles
constexpr uint64_t kOffsetBytes = 8;

uint64_t load_u64(const std::byte* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

void store_u64(std::byte* p, uint64_t value) { std::memcpy(p, &value, sizeof value); }

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
void xor_zeros(const std::byte* from, const std::byte* zeros, std::byte* to) {
  for (int i = 0; i < kStepBytes; ++i) {
    const auto zero = static_cast<unsigned>(zeros[i / 4]);
    to[i] = from[i] ^ static_cast<std::byte>(zero * 17);  // in both halves
  }
}

[[noreturn]] void corrupt(std::string_view name, int64_t tile, std::string_view rule) {
  fail(ErrorCode::kCorrupt, "[codec] tensor '{}': row tile {}: {}", name, tile, rule);
}

// Bytes of values of a tile: one for each kept nibble of the side that keeps more.
uint64_t value_bytes(const std::byte* masks, int64_t steps) {
  uint64_t low = 0, high = 0;
  for (int64_t step = 0; step < steps; ++step) {
    low += std::popcount(load_u64(masks + step * kStepMaskBytes));
    high += std::popcount(load_u64(masks + step * kStepMaskBytes + 8));
  }
  return std::max(low, high);
}

void check_bitmask(const SparseTiles& t, std::string_view name) {
  const SparseShape shape(t.rows, t.cols);
  uint64_t expected = 0;
  for (int64_t tile = 0;; ++tile) {
    const uint64_t offset = load_u64(t.data.data() + shape.offsets_at + tile * kOffsetBytes);
    if (offset != expected)
      corrupt(name, tile, "values do not begin where the masks before it say");
    if (tile == shape.tiles) return;
    expected += value_bytes(t.data.data() + tile * shape.steps * kStepMaskBytes, shape.steps);
  }
}

void check_two_of_four(const SparseTiles& t, std::string_view name) {
  const SparseShape shape(t.rows, t.cols);
  for (int64_t step = 0; step < shape.tiles * shape.steps; ++step) {
    const std::byte* positions = t.data.data() + step * kStepPairBytes + 2 * kTileRows;
    int bad = 0;
    for (int row = 0; row < kTileRows; ++row) {
      const auto p = static_cast<unsigned>(positions[row]);
      bad |= static_cast<int>((p & 3) >= (p >> 2 & 3)) | static_cast<int>((p >> 4 & 3) >= p >> 6);
    }
    if (bad != 0) corrupt(name, step / shape.steps, "positions of two values are not in order");
  }
}

void expand_bitmask_tile(const std::byte* masks, const std::byte* values, int64_t steps,
                         std::byte* out) {
  const std::byte *low = values, *high = values;
  for (int64_t step = 0; step < steps; ++step, out += kStepBytes) {
    const uint64_t low_mask = load_u64(masks + step * kStepMaskBytes);
    const uint64_t high_mask = load_u64(masks + step * kStepMaskBytes + 8);
    for (int i = 0; i < kStepBytes; ++i) {
      out[i] = std::byte{0};
      if ((low_mask >> i & 1) != 0) out[i] |= *low++ & std::byte{0x0f};
      if ((high_mask >> i & 1) != 0) out[i] |= *high++ & std::byte{0xf0};
    }
  }
}

void expand_pairs(const std::byte* from, std::byte* out) {
  std::memset(out, 0, kStepBytes);
  for (int row = 0; row < kTileRows; ++row) {
    const auto p = static_cast<unsigned>(from[2 * kTileRows + row]);
    for (int i = 0; i < 2; ++i) {
      const std::byte value = from[2 * row + i];
      out[4 * row + (p >> 2 * i & 3)] |= value & std::byte{0x0f};
      out[4 * row + (p >> (4 + 2 * i) & 3)] |= value & std::byte{0xf0};
    }
  }
}

// Positions and values of the two kept of four nibbles, given as 0 to 15. False when there are
// more.
bool choose_two(const unsigned (&four)[4], unsigned (&value)[2], unsigned& position) {
  unsigned at[2] = {0, 0}, count = 0;
  for (unsigned c = 0; c < 4; ++c) {
    if (four[c] == 0) continue;
    if (count == 2) return false;
    at[count++] = c;
  }
  if (count == 0) at[1] = 1;
  if (count == 1 && at[0] == 3) at[0] = 2, at[1] = 3;
  if (count == 1 && at[1] == 0) at[1] = at[0] + 1;
  position = at[0] | at[1] << 2;
  value[0] = four[at[0]];
  value[1] = four[at[1]];
  return true;
}

bool compress_pairs(const std::byte* step, std::byte* to) {
  for (int row = 0; row < kTileRows; ++row) {
    unsigned value[2][2], position[2];
    for (const int side : {0, 1}) {
      unsigned four[4];
      for (int c = 0; c < 4; ++c)
        four[c] = static_cast<unsigned>(step[4 * row + c]) >> 4 * side & 15;
      if (!choose_two(four, value[side], position[side])) return false;
    }
    for (const int i : {0, 1})
      to[2 * row + i] = static_cast<std::byte>(value[0][i] | value[1][i] << 4);
    to[2 * kTileRows + row] = static_cast<std::byte>(position[0] | position[1] << 4);
  }
  return true;
}

class BitmaskWriter {
 public:
  BitmaskWriter(const SparseShape& shape, std::vector<std::byte>& out) : shape_(shape), out_(out) {
    out_.resize(shape.values_at);
  }
  void add_step(int64_t tile, int64_t step, const std::byte* bytes) {
    uint64_t masks[2] = {0, 0};
    for (int i = 0; i < kStepBytes; ++i) {
      const auto pair = static_cast<unsigned>(bytes[i]);
      add(pair & 0x0f, 0, i, masks);
      add(pair & 0xf0, 1, i, masks);
    }
    for (const int side : {0, 1})
      store_u64(out_.data() + (tile * shape_.steps + step) * kStepMaskBytes + 8 * side,
                masks[side]);
  }
  void end_tile(int64_t tile) {
    next_[0] = next_[1] = out_.size() - shape_.values_at;
    store_u64(out_.data() + shape_.offsets_at + (tile + 1) * kOffsetBytes, next_[0]);
  }

 private:
  void add(unsigned nibble, int side, int i, uint64_t (&masks)[2]) {
    if (nibble == 0) return;
    masks[side] |= uint64_t{1} << i;
    const uint64_t at = shape_.values_at + next_[side]++;
    if (at == out_.size()) out_.push_back(std::byte{0});
    out_[at] |= static_cast<std::byte>(nibble);
  }

  const SparseShape& shape_;
  std::vector<std::byte>& out_;
  uint64_t next_[2] = {0, 0};
};

}  // namespace

uint64_t sparse_data_bytes(Sparsity form, int64_t rows, int64_t cols,
                           std::span<const std::byte> stored, std::string_view name) {
  const uint64_t dense = tile_sizes(DType::kTileInt4, rows, cols, cols).data_bytes;
  const SparseShape shape(rows, cols);
  uint64_t size = dense / kStepBytes * kStepPairBytes;
  if (form == Sparsity::kBitmask) {
    size = shape.values_at + kSparseGuardBytes;
    if (stored.size() >= size) {
      const uint64_t values = load_u64(stored.data() + shape.values_at - kOffsetBytes);
      size +=
          std::min(values, dense);  // more would contradict the masks, which check_sparse() says
    }
  }
  if (stored.size() < size) {
    fail(ErrorCode::kCorrupt, "[codec] tensor '{}': {} bytes, a pruned matrix of {} x {} needs {}",
         name, stored.size(), rows, cols, size);
  }
  return size;
}

void check_sparse(const SparseTiles& t, std::string_view name) {
  EncodedTensor shape;
  shape.dtype = DType::kTileInt4;
  const TileSizes sizes = tile_sizes(shape.dtype, t.rows, t.cols, t.group_size);
  if (t.form == Sparsity::kNone || t.scales.size() != sizes.scale_bytes ||
      (!t.symmetric() && t.zeros.size() != sizes.zero_bytes) ||
      t.data.size() != sparse_data_bytes(t.form, t.rows, t.cols, t.data, name)) {
    fail(ErrorCode::kCorrupt,
         "[codec] tensor '{}': {} + {} + {} bytes are no pruned matrix of {} x {}", name,
         t.data.size(), t.scales.size(), t.zeros.size(), t.rows, t.cols);
  }
  t.form == Sparsity::kBitmask ? check_bitmask(t, name) : check_two_of_four(t, name);
}

std::optional<SparseTiles> compress_tiles(const EncodedTensor& dense, Sparsity form) {
  if (dense.dtype != DType::kTileInt4 || form == Sparsity::kNone) {
    fail(ErrorCode::kInvalidArgument, "[codec] {} has no compressed form", info(dense.dtype).name);
  }
  check_sizes(dense, "");
  const SparseShape shape(dense.rows, dense.cols);
  const ZeroPoints zeros(dense.zeros, dense.cols, dense.group_size);
  const auto bytes = std::make_shared<std::vector<std::byte>>();
  BitmaskWriter bitmask(shape, *bytes);
  if (form == Sparsity::kTwoOfFour) bytes->resize(shape.tiles * shape.steps * kStepPairBytes);
  std::array<std::byte, kStepBytes> step_bytes;
  for (int64_t tile = 0; tile < shape.tiles; ++tile) {
    for (int64_t step = 0; step < shape.steps; ++step) {
      const int64_t at = tile * shape.steps + step;
      xor_zeros(dense.data.data() + at * kStepBytes, zeros.at(tile, step), step_bytes.data());
      if (form == Sparsity::kBitmask) {
        bitmask.add_step(tile, step, step_bytes.data());
      } else if (!compress_pairs(step_bytes.data(), bytes->data() + at * kStepPairBytes)) {
        return std::nullopt;
      }
    }
    if (form == Sparsity::kBitmask) bitmask.end_tile(tile);
  }
  if (form == Sparsity::kBitmask) bytes->resize(bytes->size() + kSparseGuardBytes);
  struct Owner {
    std::shared_ptr<std::vector<std::byte>> bytes;
    std::shared_ptr<const void> dense;
  };
  return SparseTiles{
      form,   dense.rows,   dense.cols,  dense.group_size,
      *bytes, dense.scales, dense.zeros, std::make_shared<Owner>(bytes, dense.owner)};
}

EncodedTensor expand_tiles(const SparseTiles& t, std::string_view name) {
  check_sparse(t, name);
  const SparseShape shape(t.rows, t.cols);
  const ZeroPoints zeros(t.zeros, t.cols, t.group_size);
  struct Owner {
    std::vector<std::byte> bytes;
    std::shared_ptr<const void> sparse;
  };
  const auto owner = std::make_shared<Owner>();
  owner->bytes.resize(shape.tiles * shape.steps * kStepBytes);
  owner->sparse = t.owner;
  for (int64_t tile = 0; tile < shape.tiles; ++tile) {
    const int64_t first = tile * shape.steps;
    std::byte* out = owner->bytes.data() + first * kStepBytes;
    if (t.form == Sparsity::kBitmask) {
      const uint64_t offset = load_u64(t.data.data() + shape.offsets_at + tile * kOffsetBytes);
      expand_bitmask_tile(t.data.data() + first * kStepMaskBytes,
                          t.data.data() + shape.values_at + offset, shape.steps, out);
    }
    for (int64_t step = 0; step < shape.steps; ++step, out += kStepBytes) {
      if (t.form == Sparsity::kTwoOfFour)
        expand_pairs(t.data.data() + (first + step) * kStepPairBytes, out);
      xor_zeros(out, zeros.at(tile, step), out);
    }
  }
  EncodedTensor dense;
  dense.dtype = DType::kTileInt4;
  dense.rows = t.rows;
  dense.cols = t.cols;
  dense.group_size = t.group_size;
  dense.data = owner->bytes;
  dense.scales = t.scales;
  dense.zeros = t.zeros;
  dense.owner = owner;
  return dense;
}

}  // namespace packlight::codec

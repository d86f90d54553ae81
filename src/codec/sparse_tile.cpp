#include "codec/sparse_tile.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "base/fail.h"
#include "codec/sparse_shape.h"
#include "codec/tile.h"

namespace packlight::codec {
namespace {

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

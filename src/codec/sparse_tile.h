#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "codec/encoded_tensor.h"

namespace packlight::codec {

// How the codes of kTileInt4 tiles are stored when many of them stand for 0.
enum class Sparsity : uint8_t { kNone, kBitmask, kTwoOfFour };

// A pruned INT4 matrix as a view of bytes that `owner` keeps alive. Scales and zero points are
// those of kTileInt4; only the codes are stored otherwise (docs/formats/package.md draws it). An
// element of a tile's data is *kept* when its code is not the zero of its row and group (8 when
// symmetric); what is stored of it is code XOR zero, so that all that is not kept is 0 before the
// XOR that decodes it.
//
// A step is what 64 bytes of a tile hold: 16 rows x 8 columns.
//   kBitmask:   masks [row_tile][step][2] U64: bit i of the first says whether the low nibble of
//   byte i
//               is kept, of the second the high one; then offsets [row_tiles + 1] U64, where the
//               values of a tile begin, from 0, and the last ends; then the values: byte i of a
//               tile holds its i-th kept low nibble in its low and its i-th kept high nibble in its
//               high four bits; then kSparseGuardBytes zeros, as kernels load whole vectors.
//   kTwoOfFour: [row_tile][step] of 48 bytes: values [row][2], then positions [row]. Two of the
//   four
//               columns 0-3 of a row are in the low nibbles (of values and of the position), two of
//               the columns 4-7 in the high ones. A position is p0 + 4 p1, p0 < p1 the columns of
//               the values.
struct SparseTiles {
  Sparsity form = Sparsity::kNone;
  int64_t rows = 0, cols = 0;
  int64_t group_size = 0;
  std::span<const std::byte> data;
  std::span<const std::byte> scales;  // F16
  std::span<const std::byte> zeros;   // U8 zero points; empty when symmetric
  std::shared_ptr<const void> owner;

  bool symmetric() const { return zeros.empty(); }
  uint64_t size_bytes() const { return data.size() + scales.size() + zeros.size(); }
};

inline constexpr int64_t kStepColumns = 8;
inline constexpr int64_t kStepMaskBytes = 16, kStepPairBytes = 48;
inline constexpr uint64_t kSparseGuardBytes = 64;  // one AVX-512 load

// Bytes of `data` for a matrix whose stored bytes are `stored` (they may be longer, not shorter).
// Errors: Corrupt naming `name` when they are shorter; InvalidArgument as tile_sizes().
uint64_t sparse_data_bytes(Sparsity form, int64_t rows, int64_t cols,
                           std::span<const std::byte> stored, std::string_view name);

// Throws Corrupt unless kernels can read the matrix: sizes that rows, cols and group_size imply,
// offsets that are what the masks count, positions in order. Reads one bit a weight.
void check_sparse(const SparseTiles& tiles, std::string_view name);

// The codes of kTileInt4 tiles stored in `form`; scales and zero points stay views. Nothing when
// kTwoOfFour does not hold them: more than two kept in some four columns.
// Errors: InvalidArgument for other dtypes.
std::optional<SparseTiles> compress_tiles(const EncodedTensor& dense, Sparsity form);

// The inverse, bit for bit, into a buffer the result owns. Errors: those of check_sparse().
EncodedTensor expand_tiles(const SparseTiles& tiles, std::string_view name);

}  // namespace packlight::codec

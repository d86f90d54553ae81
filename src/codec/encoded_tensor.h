#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "codec/dtype.h"

namespace packlight::codec {

// A matrix of weights in some storage format, as a view of bytes that `owner` keeps alive (a mapped file or a
// buffer). A vector is a matrix of one row. Copying copies the view.
struct EncodedTensor {
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
  std::span<const std::byte> data;  // row-major for dense and GGML types; tile.h for tiles

  // Tiles of kTileInt4 and kTileInt8 only (layout in tile.h):
  int64_t group_size = 0;             // columns that share a scale; == cols for whole rows
  std::span<const std::byte> scales;  // F16
  std::span<const std::byte> zeros;   // U8 zero points; empty when symmetric

  // > 0: the rows are those of this many heads stored in GGUF's rotary order (2i, 2i+1 of a head hold
  // what other formats hold at i and i + head_dim/2). decode_rows() gives the usual order.
  int64_t rotary_interleaved_heads = 0;

  std::shared_ptr<const void> owner;

  bool symmetric() const { return zeros.empty(); }
  int64_t groups_per_row() const { return group_size == 0 ? 0 : (cols + group_size - 1) / group_size; }
  uint64_t size_bytes() const { return data.size() + scales.size() + zeros.size(); }
};

// Decodes rows [row0, row1) to float, row-major [row1 - row0, cols] f32, in the usual row order. Exact: equal to
// the format's definition evaluated in f32 (for GGML types bit-identical to gguf.quants.dequantize).
// Integer dtypes are not weights: Unsupported. Threads: any number at once.
void decode_rows(const EncodedTensor& tensor, int64_t row0, int64_t row1, float* out);

// Throws Corrupt unless the spans have exactly the sizes that dtype, rows, cols and group_size imply.
void check_sizes(const EncodedTensor& tensor, std::string_view name);

}  // namespace packlight::codec

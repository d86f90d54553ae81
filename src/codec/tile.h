#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codec/encoded_tensor.h"
#include "codec/quantized_matrix.h"

namespace packlight::codec {

// The packed layout that every kernel reads (docs/formats/package.md draws it).
//
// Rows are taken 16 at a time (a row tile; missing rows of the last are zero codes with scale 0), columns are padded
// to a multiple of 32 (codes of the padding are 0 and are never decoded). `data` runs over row tiles, then columns:
//   kTileInt4: 8 columns a step, 64 bytes: byte 4*r + c holds code u(r, c) in its low nibble and u(r, c + 4) in its
//              high one, r < 16, c < 4. u = code + 8 when symmetric, u = code when not: always 0..15.
//   kTileInt8: 4 columns a step, 64 bytes: byte 4*r + c holds code (r, c) as int8.
//   kTileF16:  1 column a step, 32 bytes: the 16 rows' values as F16.
// scales: [row_tile][group][16] F16 (32 bytes a group); zeros: [row_tile][group][16] U8.
inline constexpr int kTileRows = 16;
inline constexpr int kColumnAlign = 32;

inline int64_t row_tiles(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
inline int64_t padded_cols(int64_t cols) { return (cols + kColumnAlign - 1) / kColumnAlign * kColumnAlign; }

struct TileSizes {
  uint64_t data_bytes, scale_bytes, zero_bytes;
};
// zero_bytes is for the asymmetric form; a symmetric one has none.
TileSizes tile_sizes(DType dtype, int64_t rows, int64_t cols, int64_t group_size);

// Packs into a buffer the result owns. bits 4 -> kTileInt4, 8 -> kTileInt8. Errors: InvalidArgument on codes out of
// range, sizes that do not match.
EncodedTensor pack(const QuantizedMatrix& matrix);

// The inverse, bit for bit. Errors: InvalidArgument for other dtypes.
QuantizedMatrix unpack(const EncodedTensor& tensor);

// [rows, cols] f32 -> kTileF16, round to nearest even. Errors: InvalidArgument for a value that becomes infinite.
EncodedTensor pack_f16(std::span<const float> values, int64_t rows, int64_t cols);

// One row of any tile type, decoded to f32 [cols] (embedding look-up).
void decode_tile_row(const EncodedTensor& tensor, int64_t row, float* out);

}  // namespace packlight::codec

#pragma once

#include <cstdint>

// Plain data that kernels of every ISA read. Nothing here has an inline function: a translation
// unit compiled for a wide ISA must not emit code that the linker could pick for the whole program.

namespace packlight::kernels {

// Activations quantized as they come: symmetric INT8, one scale per token and 32 columns.
//   scale = max|x| / 127 over the block (0 for an all-zero block), q = round_half_even(x / scale),
//   x ≈ q * scale
// Buffers for `tokens` rows of padded_cols (a multiple of 32, padding zero); blocks = padded_cols
// / 32.
struct ActivationsInt8 {
  int64_t tokens = 0, padded_cols = 0;
  int8_t* q = nullptr;  // [tokens, padded_cols] in [-127, 127], 64-byte aligned rows are not needed
  float* scale = nullptr;  // [tokens, blocks]
  int32_t* sum = nullptr;  // [tokens, blocks] sum of q: lets kernels correct for zero points
};

enum class KvType { kF16, kInt8 };

// Keys and values of one KV head of one layer, position-major. kInt8: one F32 scale per position
// and head.
struct KvView {
  KvType type = KvType::kF16;
  int64_t head_dim = 0;
  const void* k = nullptr;         // [positions, head_dim] F16 or INT8
  const void* v = nullptr;         // same
  const float* k_scale = nullptr;  // [positions], kInt8 only
  const float* v_scale = nullptr;
  int64_t position_stride = 0;  // elements between positions
};

// codec::EncodedTensor of a tile type as raw pointers (codec/tile.h has the layout).
enum class TileKind { kInt4, kInt8, kF16 };

struct TileMatrix {
  TileKind kind;
  int64_t rows, cols;
  int64_t padded_cols;  // cols rounded up to 32
  int64_t tile_bytes;   // of one row tile's data
  int64_t group_size;   // a multiple of 32, or cols
  int64_t groups;       // per row
  const uint8_t* data;
  const uint16_t* scales;  // [row_tile][group][16] F16
  const uint8_t* zeros;    // [row_tile][group][16], null when symmetric
};

}  // namespace packlight::kernels

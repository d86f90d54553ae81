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

// Where the expansion of a row tile of codec::SparseTiles has got to. One call expands `steps`
// steps of 64 bytes; `fill`, 64 bytes, has the zero points of their rows in both halves of each
// byte.
struct SparseCursor {
  const uint8_t* masks;       // kBitmask: the masks; kTwoOfFour: values and positions
  const uint8_t *low, *high;  // kBitmask: the next value of low nibbles and of high ones
};

// What is done to every element of a product, or of a tensor. NaN stays NaN.
enum class ActivationKind {
  kNone,
  kClamp,        // min(max(x, a), b)
  kLeakyRelu,    // x > 0 ? x : a x
  kHardSigmoid,  // min(max(a x + b, 0), 1)
  kHardSwish,    // x min(max(x + 3, 0), 6) / 6
  kSigmoid,      // 1 / (1 + e^-x)
  kSilu,         // x / (1 + e^-x)
};

struct Activation {
  ActivationKind kind = ActivationKind::kNone;
  float a = 0, b = 0;
  bool operator==(const Activation&) const = default;
};

// y[r][j] = activation(start + sum_k a[r][k] * (b + b_row[k])[j]), r < rows, j < columns, k <
// inner. Rows of B are wherever b_row says: those of a matrix, or an image as the taps of a
// convolution see it, which is never copied out tap by tap.
struct ProductF32 {
  int64_t rows = 0, columns = 0, inner = 0;
  const float* a = nullptr;  // element (r, k) at a[r * a_row_stride + k * a_column_stride]
  int64_t a_row_stride = 0, a_column_stride = 1;
  const float* b = nullptr;
  const int64_t* b_row = nullptr;  // [inner] offsets in floats, each with `columns` floats behind
  const float* bias = nullptr;     // [rows]; null: zero
  bool accumulate = false;         // start is y[r][j] (bias is not looked at), else bias[r]
  float* y = nullptr;
  int64_t y_stride = 0;
  Activation activation;
};

// Quads of codes: column j of quad k is the four bytes at b + 4 (b_quad[k] + j), of A those at
// a + r * a_stride + 4 k.
//   y[r][j] = activation((start + sum_k dot(a[r][k], b[k][j])) * scale + bias), exact in 32 bits
// start, scale and bias are one for each row (weights in A), or one for each column (weights in B).
// The weights are signed bytes; the others are codes as quantize_quads() writes them.
struct ProductInt8 {
  int64_t rows = 0, columns = 0, quads = 0;
  const uint8_t* a = nullptr;
  int64_t a_stride = 0;  // bytes
  const uint8_t* b = nullptr;
  const int64_t* b_quad = nullptr;  // [quads] offsets in quads, each with `columns` quads behind
  bool weights_in_b = false;
  const int32_t* start = nullptr;  // -(zero point of the other codes) * sum of the weight's codes
  const float* scale = nullptr;
  const float* bias = nullptr;  // null: zero
  float* y = nullptr;
  int64_t y_stride = 0;
  Activation activation;
};

// q = min(max(round_half_even(factor x / scale) + zero, low), high), 0 <= low <= high <= 255.
struct CodeRange {
  float scale = 1;
  int32_t zero = 0, low = 0, high = 255;
  // Null: 1. Else one for each row (quantize_quads) or element (quantize_codes); round_to_codes
  // knows none.
  const float* factors = nullptr;
};

}  // namespace packlight::kernels

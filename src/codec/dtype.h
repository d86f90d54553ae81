#pragma once

#include <cstdint>
#include <string_view>

namespace packlight::codec {

// Every way an element, or a block of elements, is stored. Dense types are little endian.
enum class DType : uint8_t {
  kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool,
  // GGML blocks, row-major: 32 elements a block up to kQ8_0, 256 for the K types.
  kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K,
  // Packlight tiles (tile.h): 16 rows side by side, what the kernels read.
  kTileInt4, kTileInt8, kTileF16,
};

struct DTypeInfo {
  std::string_view name;  // "F32", "Q4_0", "TILE_INT4", ...
  int block_elements;     // elements in a block of a row; 1 for dense types; 0 for tiles
  int block_bytes;        // bytes of a block; 0 for tiles
};

const DTypeInfo& info(DType dtype);

inline bool is_float(DType t) {
  return t == DType::kF64 || t == DType::kF32 || t == DType::kF16 || t == DType::kBF16;
}
inline bool is_ggml_block(DType t) { return t >= DType::kQ4_0 && t <= DType::kQ6_K; }
inline bool is_tile(DType t) { return t >= DType::kTileInt4; }

}  // namespace packlight::codec

#include "codec/tile.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

#include "base/fail.h"
#include "codec/half.h"

namespace packlight::codec {
namespace {

constexpr uint64_t kAlign = 64;  // a cache line; one AVX-512 load never crosses it

uint64_t checked_product(uint64_t a, uint64_t b, int64_t rows, int64_t cols) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product) || product > (uint64_t{1} << 62)) {
    fail(ErrorCode::kInvalidArgument, "[tile] a matrix of {} x {} does not fit the address space",
         rows, cols);
  }
  return product;
}

void check_shape(int64_t rows, int64_t cols) {
  constexpr int64_t kLimit = int64_t{1} << 40;
  if (rows < 1 || cols < 1 || rows > kLimit || cols > kLimit) {
    fail(ErrorCode::kInvalidArgument,
         "[tile] a matrix of {} x {}: rows and columns must be 1 to 2^40", rows, cols);
  }
}

void check_group(int64_t group_size, int64_t cols) {
  if (group_size == cols || (group_size > 0 && group_size % kColumnAlign == 0)) return;
  fail(ErrorCode::kInvalidArgument,
       "[tile] group_size {} with {} columns: it must be a multiple of {} or the whole row",
       group_size, cols, kColumnAlign);
}

struct Buffer {
  std::shared_ptr<std::byte> bytes;
  uint64_t size = 0;
};

// One zeroed allocation that holds data, scales and zeros, each on a cache line.
Buffer allocate(uint64_t size) {
  const uint64_t rounded = (size + kAlign - 1) / kAlign * kAlign;
  auto* raw =
      static_cast<std::byte*>(::operator new(rounded, std::align_val_t(kAlign), std::nothrow));
  if (raw == nullptr) fail(ErrorCode::kOutOfMemory, "[tile] cannot allocate {} bytes", rounded);
  std::memset(raw, 0, rounded);
  return {std::shared_ptr<std::byte>(
              raw, [](std::byte* p) { ::operator delete(p, std::align_val_t(kAlign)); }),
          rounded};
}

uint64_t align_up(uint64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// Byte that holds element (row r of the tile, column c), counted from the start of the row tile.
int64_t int4_byte(int r, int64_t c) { return c / 8 * 64 + 4 * r + c % 4; }
int64_t int8_byte(int r, int64_t c) { return c / 4 * 64 + 4 * r + c % 4; }
bool high_nibble(int64_t c) { return (c & 4) != 0; }

int64_t tile_bytes(DType dtype, int64_t cols) {
  const int64_t padded = padded_cols(cols);
  if (dtype == DType::kTileInt4) return padded * kTileRows / 2;
  return dtype == DType::kTileInt8 ? padded * kTileRows : padded * kTileRows * 2;
}

uint8_t stored_code(const std::byte* tile, DType dtype, int r, int64_t c) {
  if (dtype == DType::kTileInt8) return static_cast<uint8_t>(tile[int8_byte(r, c)]);
  const auto pair = static_cast<uint8_t>(tile[int4_byte(r, c)]);
  return high_nibble(c) ? pair >> 4 : pair & 15;
}

uint16_t load_u16(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

void check_matrix(const QuantizedMatrix& m) {
  check_shape(m.rows, m.cols);
  check_group(m.group_size, m.cols);
  if (m.bits != 4 && m.bits != 8) {
    fail(ErrorCode::kInvalidArgument, "[tile] {} bits: only 4 and 8 have a tile format", m.bits);
  }
  if (m.bits == 8 && !m.symmetric()) {
    fail(ErrorCode::kInvalidArgument, "[tile] INT8 is symmetric, but {} zero points were given",
         m.zeros.size());
  }
  const uint64_t codes = checked_product(m.rows, m.cols, m.rows, m.cols);
  const uint64_t groups = checked_product(m.rows, m.groups_per_row(), m.rows, m.cols);
  if (m.codes.size() != codes || m.scales.size() != groups ||
      (!m.symmetric() && m.zeros.size() != groups)) {
    fail(ErrorCode::kInvalidArgument,
         "[tile] {} x {} in groups of {} needs {} codes and {} scales, got {} codes, {} scales and "
         "{} "
         "zero points",
         m.rows, m.cols, m.group_size, codes, groups, m.codes.size(), m.scales.size(),
         m.zeros.size());
  }
  const int low = m.bits == 8 ? -127 : m.symmetric() ? -8 : 0;
  const int high = m.bits == 8 ? 127 : m.symmetric() ? 7 : 15;
  for (uint64_t i = 0; i < codes; ++i) {
    if (m.codes[i] < low || m.codes[i] > high) {
      fail(ErrorCode::kInvalidArgument, "[tile] code {} at row {}, column {} is outside [{}, {}]",
           m.codes[i], i / m.cols, i % m.cols, low, high);
    }
  }
  for (uint64_t i = 0; i < m.zeros.size(); ++i) {
    if (m.zeros[i] > 15) {
      fail(ErrorCode::kInvalidArgument, "[tile] zero point {} of group {} is outside [0, 15]",
           m.zeros[i], i);
    }
  }
}

void pack_codes(const QuantizedMatrix& m, DType dtype, std::byte* data) {
  const int64_t stride = tile_bytes(dtype, m.cols);
  const int offset = dtype == DType::kTileInt4 && m.symmetric() ? 8 : 0;
  if (offset != 0) std::memset(data, 0x88, stride * row_tiles(m.rows));  // code 0 in the padding
  for (int64_t row = 0; row < m.rows; ++row) {
    std::byte* tile = data + row / kTileRows * stride;
    const int r = static_cast<int>(row % kTileRows);
    const int8_t* codes = m.codes.data() + row * m.cols;
    for (int64_t c = 0; c < m.cols; ++c) {
      const auto u = static_cast<uint8_t>(codes[c] + offset);
      if (dtype == DType::kTileInt8) {
        tile[int8_byte(r, c)] = static_cast<std::byte>(u);
        continue;
      }
      std::byte& pair = tile[int4_byte(r, c)];
      pair = high_nibble(c) ? (pair & std::byte{0x0f}) | static_cast<std::byte>(u << 4)
                            : (pair & std::byte{0xf0}) | static_cast<std::byte>(u);
    }
  }
}

// A tensor of a tile type whose spans have the sizes its fields imply.
void check_tile(const EncodedTensor& t) {
  if (!is_tile(t.dtype)) {
    fail(ErrorCode::kInvalidArgument, "[tile] {} is no tile format", info(t.dtype).name);
  }
  const TileSizes sizes = tile_sizes(t.dtype, t.rows, t.cols, t.group_size);
  if (t.data.size() != sizes.data_bytes || t.scales.size() != sizes.scale_bytes ||
      (!t.zeros.empty() && t.zeros.size() != sizes.zero_bytes)) {
    fail(ErrorCode::kInvalidArgument,
         "[tile] {} of {} x {} in groups of {} has {} + {} + {} bytes of data, scales and zero "
         "points, "
         "not {} + {} + {}",
         info(t.dtype).name, t.rows, t.cols, t.group_size, t.data.size(), t.scales.size(),
         t.zeros.size(), sizes.data_bytes, sizes.scale_bytes,
         t.zeros.empty() ? 0 : sizes.zero_bytes);
  }
}

}  // namespace

TileSizes tile_sizes(DType dtype, int64_t rows, int64_t cols, int64_t group_size) {
  check_shape(rows, cols);
  if (!is_tile(dtype)) {
    fail(ErrorCode::kInvalidArgument, "[tile] {} is no tile format", info(dtype).name);
  }
  const uint64_t tiles = row_tiles(rows);
  TileSizes sizes{checked_product(tiles, tile_bytes(dtype, cols), rows, cols), 0, 0};
  if (dtype == DType::kTileF16) return sizes;
  check_group(group_size, cols);
  const uint64_t groups = (cols + group_size - 1) / group_size;
  sizes.zero_bytes =
      dtype == DType::kTileInt4 ? checked_product(tiles, groups * kTileRows, rows, cols) : 0;
  sizes.scale_bytes = checked_product(tiles, groups * kTileRows * 2, rows, cols);
  return sizes;
}

EncodedTensor pack(const QuantizedMatrix& m) {
  check_matrix(m);
  EncodedTensor t;
  t.dtype = m.bits == 4 ? DType::kTileInt4 : DType::kTileInt8;
  t.rows = m.rows;
  t.cols = m.cols;
  t.group_size = m.group_size;
  const TileSizes sizes = tile_sizes(t.dtype, m.rows, m.cols, m.group_size);
  const uint64_t scales_at = align_up(sizes.data_bytes);
  const uint64_t zeros_at = scales_at + align_up(sizes.scale_bytes);
  const uint64_t zero_bytes = m.symmetric() ? 0 : sizes.zero_bytes;
  const Buffer buffer = allocate(zeros_at + zero_bytes);
  std::byte* base = buffer.bytes.get();
  pack_codes(m, t.dtype, base);
  const int64_t groups = m.groups_per_row();
  for (int64_t row = 0; row < m.rows; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = (row / kTileRows * groups + g) * kTileRows + row % kTileRows;
      std::memcpy(base + scales_at + 2 * at, &m.scales[row * groups + g], 2);
      if (zero_bytes > 0) base[zeros_at + at] = static_cast<std::byte>(m.zeros[row * groups + g]);
    }
  }
  t.data = {base, sizes.data_bytes};
  t.scales = {base + scales_at, sizes.scale_bytes};
  if (zero_bytes > 0) t.zeros = {base + zeros_at, zero_bytes};
  t.owner = buffer.bytes;
  return t;
}

QuantizedMatrix unpack(const EncodedTensor& t) {
  if (t.dtype != DType::kTileInt4 && t.dtype != DType::kTileInt8) {
    fail(ErrorCode::kInvalidArgument, "[tile] {} has no codes to unpack", info(t.dtype).name);
  }
  check_tile(t);
  QuantizedMatrix m;
  m.rows = t.rows;
  m.cols = t.cols;
  m.bits = t.dtype == DType::kTileInt4 ? 4 : 8;
  m.group_size = t.group_size;
  const int64_t groups = m.groups_per_row(), stride = tile_bytes(t.dtype, t.cols);
  m.codes.resize(m.rows * m.cols);
  m.scales.resize(m.rows * groups);
  if (!t.symmetric()) m.zeros.resize(m.rows * groups);
  const int offset = m.bits == 4 && t.symmetric() ? 8 : 0;
  for (int64_t row = 0; row < m.rows; ++row) {
    const std::byte* tile = t.data.data() + row / kTileRows * stride;
    const int r = static_cast<int>(row % kTileRows);
    for (int64_t c = 0; c < m.cols; ++c) {
      m.codes[row * m.cols + c] = static_cast<int8_t>(stored_code(tile, t.dtype, r, c) - offset);
    }
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = (row / kTileRows * groups + g) * kTileRows + r;
      m.scales[row * groups + g] = load_u16(t.scales.data() + 2 * at);
      if (!t.symmetric()) m.zeros[row * groups + g] = static_cast<uint8_t>(t.zeros[at]);
    }
  }
  return m;
}

EncodedTensor pack_f16(std::span<const float> values, int64_t rows, int64_t cols) {
  const TileSizes sizes = tile_sizes(DType::kTileF16, rows, cols, 0);
  if (values.size() != checked_product(rows, cols, rows, cols)) {
    fail(ErrorCode::kInvalidArgument, "[tile] {} x {} needs {} values, got {}", rows, cols,
         rows * cols, values.size());
  }
  const Buffer buffer = allocate(sizes.data_bytes);
  const int64_t stride = tile_bytes(DType::kTileF16, cols);
  for (int64_t row = 0; row < rows; ++row) {
    std::byte* tile = buffer.bytes.get() + row / kTileRows * stride;
    for (int64_t c = 0; c < cols; ++c) {
      const float value = values[row * cols + c];
      const uint16_t half = f32_to_f16(value);
      if ((half & 0x7fff) == 0x7c00) {
        fail(ErrorCode::kInvalidArgument,
             "[tile] value {} at row {}, column {} does not fit F16 (65504)", value, row, c);
      }
      std::memcpy(tile + 2 * (c * kTileRows + row % kTileRows), &half, 2);
    }
  }
  EncodedTensor t;
  t.dtype = DType::kTileF16;
  t.rows = rows;
  t.cols = cols;
  t.data = {buffer.bytes.get(), sizes.data_bytes};
  t.owner = buffer.bytes;
  return t;
}

void decode_tile_row(const EncodedTensor& t, int64_t row, float* out) {
  check_tile(t);
  if (row < 0 || row >= t.rows) {
    fail(ErrorCode::kInvalidArgument, "[tile] row {} of a matrix of {} rows", row, t.rows);
  }
  const std::byte* tile = t.data.data() + row / kTileRows * tile_bytes(t.dtype, t.cols);
  const int r = static_cast<int>(row % kTileRows);
  if (t.dtype == DType::kTileF16) {
    for (int64_t c = 0; c < t.cols; ++c)
      out[c] = f16_to_f32(load_u16(tile + 2 * (c * kTileRows + r)));
    return;
  }
  const int64_t groups = t.groups_per_row();
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t at = (row / kTileRows * groups + g) * kTileRows + r;
    const float scale = f16_to_f32(load_u16(t.scales.data() + 2 * at));
    const int zero = !t.symmetric()                ? static_cast<int>(t.zeros[at])
                     : t.dtype == DType::kTileInt4 ? 8
                                                   : 0;
    const int64_t end = std::min(t.cols, (g + 1) * t.group_size);
    for (int64_t c = g * t.group_size; c < end; ++c) {
      const uint8_t u = stored_code(tile, t.dtype, r, c);
      const int code = t.dtype == DType::kTileInt8 ? static_cast<int8_t>(u) : u;
      out[c] = static_cast<float>(code - zero) * scale;
    }
  }
}

}  // namespace packlight::codec

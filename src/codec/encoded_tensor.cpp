#include "codec/encoded_tensor.h"

#include <cstring>
#include <vector>

#include "base/fail.h"
#include "codec/ggml_blocks.h"
#include "codec/half.h"
#include "codec/tile.h"

namespace packlight::codec {
namespace {

template <class Stored, class Convert>
void decode_dense(const std::byte* row, int64_t cols, float* out, Convert convert) {
  for (int64_t c = 0; c < cols; ++c) {
    Stored stored;
    std::memcpy(&stored, row + c * sizeof(Stored), sizeof(Stored));
    out[c] = convert(stored);
  }
}

void decode_dense_row(DType dtype, const std::byte* row, int64_t cols, float* out) {
  switch (dtype) {
    case DType::kF32:
      if (cols > 0) std::memcpy(out, row, static_cast<size_t>(cols) * sizeof(float));
      return;
    case DType::kF16:
      return decode_dense<uint16_t>(row, cols, out, f16_to_f32);
    case DType::kBF16:
      return decode_dense<uint16_t>(row, cols, out, bf16_to_f32);
    case DType::kF64:
      return decode_dense<double>(row, cols, out, [](double v) { return static_cast<float>(v); });
    default:
      fail(ErrorCode::kUnsupported, "[codec] dtype {} holds integers, not weights",
           info(dtype).name);
  }
}

// Bytes of a stored row of a dense or GGML type.
uint64_t row_bytes(const EncodedTensor& tensor) {
  const DTypeInfo& type = info(tensor.dtype);
  return static_cast<uint64_t>(tensor.cols) / type.block_elements * type.block_bytes;
}

void decode_stored_row(const EncodedTensor& tensor, int64_t row, float* out) {
  if (is_tile(tensor.dtype)) return decode_tile_row(tensor, row, out);
  const std::byte* bytes = tensor.data.data() + row * row_bytes(tensor);
  if (is_ggml_block(tensor.dtype)) return decode_ggml_row(tensor.dtype, bytes, tensor.cols, out);
  decode_dense_row(tensor.dtype, bytes, tensor.cols, out);
}

// Where GGUF stores what other formats hold at `index`: halves of a head are interleaved there.
int64_t interleaved_index(int64_t index, int64_t head_dim) {
  const int64_t head = index / head_dim, i = index % head_dim, half = head_dim / 2;
  return head * head_dim + (i < half ? 2 * i : 2 * (i - half) + 1);
}

int64_t rotary_head_dim(const EncodedTensor& tensor, int64_t length) {
  const int64_t heads = tensor.rotary_interleaved_heads;
  if (length % heads != 0 || length / heads % 2 != 0) {
    fail(ErrorCode::kInvalidArgument, "[codec] {} rotary rows are not {} heads of an even width",
         length, heads);
  }
  return length / heads;
}

// a * b, or nothing when it does not fit 63 bits.
bool multiply(uint64_t a, uint64_t b, uint64_t* product) {
  return !__builtin_mul_overflow(a, b, product) && *product <= INT64_MAX;
}

constexpr int64_t kLargestDim = int64_t{1}
                                << 40;  // keeps every sum of the tile formulas inside 63 bits

void expect_size(std::string_view name, std::string_view part, uint64_t got, uint64_t want) {
  if (got != want) {
    fail(ErrorCode::kCorrupt, "[codec] tensor '{}': {} has {} bytes, its type and shape need {}",
         name, part, got, want);
  }
}

void check_tile_sizes(const EncodedTensor& tensor, std::string_view name) {
  const bool grouped = tensor.dtype != DType::kTileF16;
  if (grouped && (tensor.group_size < 1 || tensor.group_size > kLargestDim)) {
    fail(ErrorCode::kCorrupt, "[codec] tensor '{}': group size {}", name, tensor.group_size);
  }
  const TileSizes sizes = tile_sizes(tensor.dtype, tensor.rows, tensor.cols, tensor.group_size);
  expect_size(name, "data", tensor.data.size(), sizes.data_bytes);
  expect_size(name, "scales", tensor.scales.size(), grouped ? sizes.scale_bytes : 0);
  if (!tensor.symmetric())
    expect_size(name, "zeros", tensor.zeros.size(), grouped ? sizes.zero_bytes : 0);
}

}  // namespace

void decode_rows(const EncodedTensor& tensor, int64_t row0, int64_t row1, float* out) {
  if (row0 < 0 || row1 < row0 || row1 > tensor.rows) {
    fail(ErrorCode::kInvalidArgument, "[codec] rows {}..{} of a tensor of {} rows", row0, row1,
         tensor.rows);
  }
  if (tensor.rotary_interleaved_heads > 0 &&
      tensor.rows == 1) {  // a bias: its elements are the rows
    const int64_t head_dim = rotary_head_dim(tensor, tensor.cols);
    if (row0 == row1) return;
    std::vector<float> stored(tensor.cols);
    decode_stored_row(tensor, 0, stored.data());
    for (int64_t c = 0; c < tensor.cols; ++c) out[c] = stored[interleaved_index(c, head_dim)];
    return;
  }
  const int64_t head_dim =
      tensor.rotary_interleaved_heads > 0 ? rotary_head_dim(tensor, tensor.rows) : 0;
  for (int64_t row = row0; row < row1; ++row, out += tensor.cols) {
    decode_stored_row(tensor, head_dim > 0 ? interleaved_index(row, head_dim) : row, out);
  }
}

void check_sizes(const EncodedTensor& tensor, std::string_view name) {
  if (tensor.rows < 0 || tensor.cols < 0 || tensor.rows > kLargestDim ||
      tensor.cols > kLargestDim) {
    fail(ErrorCode::kCorrupt, "[codec] tensor '{}': {} x {} elements", name, tensor.rows,
         tensor.cols);
  }
  const uint64_t rows = tensor.rows, cols = tensor.cols;
  uint64_t elements = 0, bytes = 0;
  if (!multiply(rows, cols, &elements) || !multiply(elements + 64 * (rows + cols), 8, &bytes)) {
    fail(ErrorCode::kCorrupt, "[codec] tensor '{}': {} x {} elements overflow", name, rows, cols);
  }
  if (is_tile(tensor.dtype)) return check_tile_sizes(tensor, name);
  const DTypeInfo& type = info(tensor.dtype);
  if (cols % type.block_elements != 0) {
    fail(ErrorCode::kCorrupt, "[codec] tensor '{}': {} columns are no multiple of {}'s block of {}",
         name, cols, type.name, type.block_elements);
  }
  expect_size(name, "data", tensor.data.size(), rows * row_bytes(tensor));
}

}  // namespace packlight::codec

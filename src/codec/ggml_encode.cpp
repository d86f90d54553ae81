#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/fail.h"
#include "codec/ggml_blocks.h"
#include "codec/half.h"

namespace packlight::codec {
namespace {

constexpr int64_t kBlock = 32;

void put_half(std::byte* p, uint16_t bits) { std::memcpy(p, &bits, sizeof(bits)); }

void put_scale(std::byte* p, float value) {
  const uint16_t bits = f32_to_f16(value);
  if (!std::isfinite(f16_to_f32(bits))) {
    fail(ErrorCode::kInvalidArgument,
         "[codec] a block needs the scale or minimum {}, beyond F16's 65504", value);
  }
  put_half(p, bits);
}

// Codes 0..15 of 32 elements to 16 bytes: element i low, element i + 16 high.
void pack_nibbles(const uint8_t codes[kBlock], std::byte* packed) {
  for (int i = 0; i < 16; ++i) packed[i] = static_cast<std::byte>(codes[i] | codes[i + 16] << 4);
}

// Adds one half and truncates, as the reference quantizers do: ties go up, not to even.
uint8_t round_code(float scaled_plus_half) {
  // Not std::clamp: the inverse of a subnormal scale is infinite and may have made a NaN.
  if (scaled_plus_half >= 15) return 15;
  return scaled_plus_half > 0 ? static_cast<uint8_t>(scaled_plus_half) : 0;
}

void encode_q4_0(const float* x, std::byte* block) {
  float extreme = 0;
  for (int i = 0; i < kBlock; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  const float scale = extreme / -8;
  const float inverse = scale != 0 ? 1 / scale : 0;
  uint8_t codes[kBlock];
  for (int i = 0; i < kBlock; ++i) codes[i] = round_code(x[i] * inverse + 8.5f);
  put_scale(block, scale);
  pack_nibbles(codes, block + 2);
}

void encode_q4_1(const float* x, std::byte* block) {
  const auto [low, high] = std::minmax_element(x, x + kBlock);
  const float minimum = *low, scale = (*high - minimum) / 15;
  const float inverse = scale != 0 ? 1 / scale : 0;
  uint8_t codes[kBlock];
  for (int i = 0; i < kBlock; ++i) codes[i] = round_code((x[i] - minimum) * inverse + 0.5f);
  put_scale(block, scale);
  put_scale(block + 2, minimum);
  pack_nibbles(codes, block + 4);
}

void encode_q8_0(const float* x, std::byte* block) {
  float largest = 0;
  for (int i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float scale = largest / 127;
  const float inverse = scale != 0 ? 1 / scale : 0;
  put_scale(block, scale);
  for (int i = 0; i < kBlock; ++i) {
    const float rounded = std::round(x[i] * inverse);
    const int8_t code = rounded >= 127 ? 127 : rounded > -127 ? static_cast<int8_t>(rounded) : -127;
    block[2 + i] = static_cast<std::byte>(std::isnan(rounded) ? 0 : code);
  }
}

void check_matrix(const QuantizedMatrix& m) {
  const bool shaped = m.rows >= 0 && m.cols > 0 && m.group_size > 0;
  if (!shaped || m.codes.size() != static_cast<uint64_t>(m.rows) * m.cols ||
      m.scales.size() != static_cast<uint64_t>(m.rows) * m.groups_per_row() ||
      (!m.symmetric() && m.zeros.size() != m.scales.size())) {
    fail(ErrorCode::kInvalidArgument,
         "[codec] quantized matrix {} x {} in groups of {}: {} codes, {} scales, {} zeros "
         "contradict its shape",
         m.rows, m.cols, m.group_size, m.codes.size(), m.scales.size(), m.zeros.size());
  }
}

// A block has one scale, so no group may end inside a block.
void check_convertible(const QuantizedMatrix& m, DType dtype) {
  const bool right_type = dtype == DType::kQ4_0   ? m.bits == 4 && m.symmetric()
                          : dtype == DType::kQ8_0 ? m.bits == 8 && m.symmetric()
                          : dtype == DType::kQ4_1 ? m.bits == 4 && !m.symmetric()
                                                  : false;
  if (!right_type) {
    fail(ErrorCode::kUnsupported,
         "[codec] {} INT{} cannot become {} without loss: symmetric INT4 becomes Q4_0, symmetric "
         "INT8 Q8_0, "
         "asymmetric INT4 Q4_1",
         m.symmetric() ? "symmetric" : "asymmetric", m.bits, info(dtype).name);
  }
  if (m.cols % kBlock != 0) {
    fail(ErrorCode::kUnsupported,
         "[codec] {} columns are no multiple of 32: no setting stores this matrix as {}", m.cols,
         info(dtype).name);
  }
  if (m.group_size < m.cols && m.group_size % kBlock != 0) {
    fail(
        ErrorCode::kUnsupported,
        "[codec] group size {} ends groups inside {}'s blocks of 32: use 32, 64, 128 or whole rows",
        m.group_size, info(dtype).name);
  }
}

// The F16 pattern of -zero * scale, which must be exact for Q4_1 to hold the same values.
uint16_t exact_minimum(const QuantizedMatrix& m, int64_t row, int64_t group) {
  const int64_t at = row * m.groups_per_row() + group;
  if (m.zeros[at] == 0) return 0;
  const float minimum = -static_cast<float>(m.zeros[at]) * f16_to_f32(m.scales[at]);
  const uint16_t half = f32_to_f16(minimum);
  if (f16_to_f32(half) != minimum) {
    fail(ErrorCode::kUnsupported,
         "[codec] row {} group {}: the minimum -{} * {} = {} is no F16 number, so Q4_1 would "
         "change the weights; "
         "quantize symmetric to export without loss",
         row, group, m.zeros[at], f16_to_f32(m.scales[at]), minimum);
  }
  return half;
}

void convert_block(const QuantizedMatrix& m, DType dtype, int64_t row, int64_t column,
                   std::byte* block) {
  const int64_t group = column / m.group_size;
  const int8_t* codes = m.codes.data() + row * m.cols + column;
  put_half(block, m.scales[row * m.groups_per_row() + group]);
  if (dtype == DType::kQ8_0) {
    std::memcpy(block + 2, codes, kBlock);
    return;
  }
  const int offset = dtype == DType::kQ4_0 ? 8 : 0;
  uint8_t unsigned_codes[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    const int code = codes[i] + offset;
    if (code < 0 || code > 15) {
      fail(ErrorCode::kInvalidArgument, "[codec] row {} column {}: code {} is no {} code", row,
           column + i, codes[i], info(dtype).name);
    }
    unsigned_codes[i] = static_cast<uint8_t>(code);
  }
  if (dtype == DType::kQ4_1) put_half(block + 2, exact_minimum(m, row, group));
  pack_nibbles(unsigned_codes, block + (dtype == DType::kQ4_1 ? 4 : 2));
}

}  // namespace

std::vector<std::byte> encode_ggml_rows(DType dtype, std::span<const float> values, int64_t cols) {
  const auto encode = dtype == DType::kQ4_0   ? encode_q4_0
                      : dtype == DType::kQ4_1 ? encode_q4_1
                      : dtype == DType::kQ8_0 ? encode_q8_0
                                              : nullptr;
  if (encode == nullptr) {
    fail(ErrorCode::kUnsupported, "[codec] no encoder for {}: Q4_0, Q4_1, Q8_0", info(dtype).name);
  }
  if (cols <= 0 || cols % kBlock != 0 || values.size() % cols != 0) {
    fail(ErrorCode::kInvalidArgument, "[codec] {} values in rows of {} are no whole blocks of 32",
         values.size(), cols);
  }
  const auto bad =
      std::find_if_not(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
  if (bad != values.end()) {
    fail(ErrorCode::kInvalidArgument, "[codec] element {} is {}: only finite values can be encoded",
         bad - values.begin(), *bad);
  }
  const size_t block_bytes = info(dtype).block_bytes;
  std::vector<std::byte> out(values.size() / kBlock * block_bytes);
  for (size_t b = 0; b < values.size() / kBlock; ++b) {
    encode(values.data() + b * kBlock, out.data() + b * block_bytes);
  }
  return out;
}

std::vector<std::byte> to_ggml_blocks(const QuantizedMatrix& matrix, DType dtype) {
  check_matrix(matrix);
  check_convertible(matrix, dtype);
  const size_t block_bytes = info(dtype).block_bytes;
  std::vector<std::byte> out(static_cast<uint64_t>(matrix.rows) * matrix.cols / kBlock *
                             block_bytes);
  std::byte* block = out.data();
  for (int64_t row = 0; row < matrix.rows; ++row) {
    for (int64_t column = 0; column < matrix.cols; column += kBlock, block += block_bytes) {
      convert_block(matrix, dtype, row, column, block);
    }
  }
  return out;
}

}  // namespace packlight::codec

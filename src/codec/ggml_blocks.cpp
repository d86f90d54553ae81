#include "codec/ggml_blocks.h"

#include <cstring>

#include "base/fail.h"
#include "codec/half.h"

// Block layouts: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h. The order of the
// float operations is that of gguf.quants.dequantize, so results are equal bit for bit.

namespace packlight::codec {
namespace {

float half_at(const std::byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return f16_to_f32(bits);
}

uint8_t byte_at(const std::byte* p, int i) { return std::to_integer<uint8_t>(p[i]); }

// Element i of the low nibbles, then of the high ones, of 16 bytes.
void unpack_nibbles(const std::byte* packed, uint8_t codes[32]) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = byte_at(packed, i) & 0x0f;
    codes[i + 16] = byte_at(packed, i) >> 4;
  }
}

void decode_q4_0(const std::byte* block, float* out) {
  const float scale = half_at(block);
  uint8_t codes[32];
  unpack_nibbles(block + 2, codes);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(codes[i] - 8);
}

void decode_q4_1(const std::byte* block, float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  uint8_t codes[32];
  unpack_nibbles(block + 4, codes);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(codes[i]) + minimum;
}

// The fifth bits of 32 elements are one little-endian word.
void unpack_5bit(const std::byte* high_bits, const std::byte* packed, uint8_t codes[32]) {
  uint32_t high;
  std::memcpy(&high, high_bits, sizeof(high));
  unpack_nibbles(packed, codes);
  for (int i = 0; i < 32; ++i) codes[i] |= static_cast<uint8_t>((high >> i & 1) << 4);
}

void decode_q5_0(const std::byte* block, float* out) {
  const float scale = half_at(block);
  uint8_t codes[32];
  unpack_5bit(block + 2, block + 6, codes);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(codes[i] - 16);
}

void decode_q5_1(const std::byte* block, float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  uint8_t codes[32];
  unpack_5bit(block + 4, block + 8, codes);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(codes[i]) + minimum;
}

void decode_q8_0(const std::byte* block, float* out) {
  const float scale = half_at(block);
  for (int i = 0; i < 32; ++i) {
    out[i] = static_cast<float>(static_cast<int8_t>(byte_at(block + 2, i))) * scale;
  }
}

// The 6-bit scale and minimum of each of a K block's eight groups of 32, packed in 12 bytes.
struct ScaleMin {
  uint8_t scale[8], minimum[8];
};

ScaleMin unpack_scale_min(const std::byte* packed) {
  ScaleMin result;
  for (int i = 0; i < 4; ++i) {
    const uint8_t d = byte_at(packed, i), m = byte_at(packed, 4 + i), rest = byte_at(packed, 8 + i);
    result.scale[i] = d & 0x3f;
    result.minimum[i] = m & 0x3f;
    result.scale[i + 4] = static_cast<uint8_t>((rest & 0x0f) | (d >> 2 & 0x30));
    result.minimum[i + 4] = static_cast<uint8_t>(rest >> 4 | (m >> 2 & 0x30));
  }
  return result;
}

// Q4_K and Q5_K: `high_bits` is null for the first.
void decode_k_scale_min(const std::byte* block, const std::byte* high_bits, const std::byte* packed,
                        float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  const ScaleMin groups = unpack_scale_min(block + 4);
  for (int g = 0; g < 8; ++g) {
    const float group_scale = scale * static_cast<float>(groups.scale[g]);
    const float group_minimum = minimum * static_cast<float>(groups.minimum[g]);
    for (int i = 0; i < 32; ++i) {
      int code = byte_at(packed, g / 2 * 32 + i) >> (g % 2 * 4) & 0x0f;
      if (high_bits != nullptr) code |= (byte_at(high_bits, i) >> g & 1) << 4;
      out[g * 32 + i] = group_scale * static_cast<float>(code) - group_minimum;
    }
  }
}

void decode_q4_k(const std::byte* block, float* out) {
  decode_k_scale_min(block, nullptr, block + 16, out);
}
void decode_q5_k(const std::byte* block, float* out) {
  decode_k_scale_min(block, block + 16, block + 48, out);
}

// 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales, one F16 scale.
void decode_q6_k(const std::byte* block, float* out) {
  const std::byte *low = block, *high = block + 128, *scales = block + 192;
  const float scale = half_at(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, j = i % 32;
    const int nibble = byte_at(low, half * 64 + quarter % 2 * 32 + j) >> (quarter / 2 * 4) & 0x0f;
    const int pair = byte_at(high, half * 32 + j) >> (quarter * 2) & 3;
    const float group_scale =
        scale * static_cast<float>(static_cast<int8_t>(byte_at(scales, i / 16)));
    out[i] = group_scale * static_cast<float>((nibble | pair << 4) - 32);
  }
}

using DecodeBlock = void (*)(const std::byte*, float*);

DecodeBlock block_decoder(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return decode_q4_0;
    case DType::kQ4_1:
      return decode_q4_1;
    case DType::kQ5_0:
      return decode_q5_0;
    case DType::kQ5_1:
      return decode_q5_1;
    case DType::kQ8_0:
      return decode_q8_0;
    case DType::kQ4_K:
      return decode_q4_k;
    case DType::kQ5_K:
      return decode_q5_k;
    case DType::kQ6_K:
      return decode_q6_k;
    default:
      fail(ErrorCode::kInvalidArgument, "[codec] {} is no GGML block type", info(dtype).name);
  }
}

}  // namespace

void decode_ggml_row(DType dtype, const std::byte* row, int64_t cols, float* out) {
  const DecodeBlock decode = block_decoder(dtype);
  const DTypeInfo& type = info(dtype);
  if (cols % type.block_elements != 0) {
    fail(ErrorCode::kInvalidArgument, "[codec] {} columns are no multiple of {}'s block of {}",
         cols, type.name, type.block_elements);
  }
  for (int64_t c = 0; c < cols; c += type.block_elements, row += type.block_bytes)
    decode(row, out + c);
}

}  // namespace packlight::codec

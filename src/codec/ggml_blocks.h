#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codec/encoded_tensor.h"
#include "codec/quantized_matrix.h"

namespace packlight::codec {

// GGML block formats: decode and the lossless conversions our writers use. decode_rows() calls decode_block_row.

// Decodes one row of `cols` elements (a multiple of the block) to f32.
void decode_ggml_row(DType dtype, const std::byte* row, int64_t cols, float* out);

// f32 rows to blocks the way llama.cpp's reference quantizer rounds (for making test models): kQ4_0, kQ4_1, kQ8_0.
std::vector<std::byte> encode_ggml_rows(DType dtype, std::span<const float> values, int64_t cols);

// Codes and scales to blocks without loss: symmetric INT4 -> kQ4_0, symmetric INT8 -> kQ8_0, every group boundary a
// multiple of 32 (scales repeated). Asymmetric INT4 -> kQ4_1 only where scale * -zero is exact in F16.
// Errors: Unsupported naming the group, the value, and the setting that would be lossless.
std::vector<std::byte> to_ggml_blocks(const QuantizedMatrix& matrix, DType dtype);

}  // namespace packlight::codec

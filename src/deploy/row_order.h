#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/encoded_tensor.h"

namespace packlight::deploy {

// Rows of a head in the order that GGUF keeps for rotary positions, and back. Row 2i + j of a head (i < head_dim / 2, j < 2) of the
// GGUF order is row j * head_dim / 2 + i of the usual one. Rows are opaque bytes, so any row-major format serves.
enum class RowOrder { kUsual, kGgufRotary };

// The row of the source order that comes at `row` of the target order.
int64_t source_row(int64_t row, int64_t head_dim, RowOrder target);

// Bytes of a row-major matrix with its rows in the other order. rows: a multiple of head_dim, which is even.
// Errors: Internal when they are not.
std::vector<std::byte> reorder_rows(std::span<const std::byte> bytes, int64_t rows, int64_t head_dim, RowOrder target);

}  // namespace packlight::deploy

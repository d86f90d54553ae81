#include "deploy/row_order.h"

#include <cstring>

#include "base/fail.h"

namespace packlight::deploy {

int64_t source_row(int64_t row, int64_t head_dim, RowOrder target) {
  const int64_t head = row / head_dim * head_dim, in_head = row % head_dim, half = head_dim / 2;
  if (target == RowOrder::kGgufRotary) return head + in_head % 2 * half + in_head / 2;
  return head + in_head % half * 2 + in_head / half;
}

std::vector<std::byte> reorder_rows(std::span<const std::byte> bytes, int64_t rows, int64_t head_dim, RowOrder target) {
  if (rows < 1 || head_dim < 2 || head_dim % 2 != 0 || rows % head_dim != 0 || bytes.size() % rows != 0) {
    fail(ErrorCode::kInternal, "[deploy] {} rows of {} bytes in heads of {} cannot be reordered", rows, bytes.size(), head_dim);
  }
  const size_t row_bytes = bytes.size() / rows;
  std::vector<std::byte> out(bytes.size());
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(out.data() + row * row_bytes, bytes.data() + source_row(row, head_dim, target) * row_bytes, row_bytes);
  }
  return out;
}

}  // namespace packlight::deploy

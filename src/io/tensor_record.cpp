#include "io/tensor_record.h"

#include <cstdint>

#include "base/fail.h"

namespace packlight::io {

int64_t TensorRecord::elements() const {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  return count;
}

codec::EncodedTensor TensorRecord::encoded() const {
  codec::EncodedTensor tensor;
  tensor.dtype = dtype;
  tensor.cols = shape.empty() ? 1 : shape.back();
  tensor.rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) tensor.rows *= shape[i];
  tensor.data = bytes;
  tensor.owner = owner;
  return tensor;
}

uint64_t tensor_bytes(codec::DType dtype, std::span<const int64_t> shape, std::string_view name,
                      std::string_view origin) {
  const codec::DTypeInfo& type = codec::info(dtype);
  // Dimensions of zero must not hide an overflow of the others, so the product leaves them out at
  // first.
  uint64_t elements = 1;
  bool empty = false;
  for (const int64_t dim : shape) {
    if (dim < 0)
      fail(ErrorCode::kCorrupt, "[io] '{}' tensor '{}': dimension {}", origin, name, dim);
    empty = empty || dim == 0;
    if (dim > 0 && (__builtin_mul_overflow(elements, static_cast<uint64_t>(dim), &elements) ||
                    elements > INT64_MAX)) {
      fail(ErrorCode::kCorrupt, "[io] '{}' tensor '{}': its dimensions overflow", origin, name);
    }
  }
  const int64_t cols = shape.empty() ? 1 : shape.back();
  if (type.block_elements == 0 || cols % type.block_elements != 0) {
    fail(ErrorCode::kCorrupt,
         "[io] '{}' tensor '{}': rows of {} elements are no whole blocks of {} ({} elements)",
         origin, name, cols, type.name, type.block_elements);
  }
  if (empty) return 0;
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(elements / type.block_elements,
                             static_cast<uint64_t>(type.block_bytes), &bytes) ||
      bytes > INT64_MAX) {
    fail(ErrorCode::kCorrupt, "[io] '{}' tensor '{}': its size overflows", origin, name);
  }
  return bytes;
}

void align_record(TensorRecord& record) {
  const codec::DTypeInfo& type = codec::info(record.dtype);
  if (type.block_elements != 1) return;  // blocks are read byte by byte
  if (reinterpret_cast<uintptr_t>(record.bytes.data()) % type.block_bytes == 0) return;
  auto copy = std::make_shared<std::vector<std::byte>>(record.bytes.begin(), record.bytes.end());
  record.bytes = *copy;
  record.owner = std::move(copy);
}

}  // namespace packlight::io

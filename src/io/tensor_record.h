#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/dtype.h"
#include "codec/encoded_tensor.h"

namespace packlight::io {

// A named tensor in a file: a view of the mapped bytes. Readers guarantee that `bytes` lies inside
// the file, that its size is what dtype and shape imply, and that it is aligned for the dtype
// (misaligned data is copied).
struct TensorRecord {
  std::string name;
  codec::DType dtype;
  std::vector<int64_t> shape;  // outermost first (row-major), whatever the file's own order
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;

  int64_t elements() const;
  // A matrix view: shape [.., cols] with the leading dims folded into rows.
  codec::EncodedTensor encoded() const;
};

// Bytes of a tensor. Errors: Corrupt naming `origin` and the tensor for a negative dimension, a
// last dimension that the dtype's block does not divide, a size beyond 63 bits.
uint64_t tensor_bytes(codec::DType dtype, std::span<const int64_t> shape, std::string_view name,
                      std::string_view origin);

// Copies the bytes of a record whose data is misaligned for its dtype, so that it may be read as
// such.
void align_record(TensorRecord& record);

}  // namespace packlight::io

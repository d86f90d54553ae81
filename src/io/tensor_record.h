#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codec/dtype.h"
#include "codec/encoded_tensor.h"

namespace packlight::io {

// A named tensor in a file: a view of the mapped bytes. Readers guarantee that `bytes` lies inside the file, that its
// size is what dtype and shape imply, and that it is aligned for the dtype (misaligned data is copied).
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

}  // namespace packlight::io

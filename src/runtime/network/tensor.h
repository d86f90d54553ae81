#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "codec/dtype.h"
#include "codec/encoded_tensor.h"

namespace packlight::runtime {

// A dense row-major tensor whose bytes somebody else owns (an arena, a package, the caller), or a
// packed weight.
struct Tensor {
  codec::DType dtype = codec::DType::kF32;
  std::vector<int64_t> dims;
  std::byte* data = nullptr;  // null while only the shape is known, and for packed weights
  const codec::EncodedTensor* packed = nullptr;  // tiles [dims[0], product of the others]

  int64_t rank() const { return static_cast<int64_t>(dims.size()); }
  int64_t elements() const;  // product of dims
  uint64_t bytes() const;
  bool has_data() const { return data != nullptr || packed != nullptr || elements() == 0; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

// "[2, 3]"
std::string to_string(std::span<const int64_t> dims);

// The integers of an I64 or I32 tensor. Errors: InvalidArgument for another type.
std::vector<int64_t> integers_of(const Tensor& tensor);

}  // namespace packlight::runtime

#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "codec/dtype.h"

namespace packlight::io {

// The numbers of the GGUF format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF", little endian
inline constexpr uint32_t kGgufDefaultAlignment = 32;
inline constexpr uint32_t kGgufMaxDims = 4;
inline constexpr size_t kGgufMaxNameBytes = 63;  // GGML_MAX_NAME less its terminating zero

enum class GgufType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

// Bytes of a scalar; 0 for text and arrays.
int gguf_scalar_bytes(GgufType type);

// A tensor type's number <-> our type. Nothing when we do not read it (or GGUF has no number for
// it).
std::optional<codec::DType> dtype_from_ggml(uint32_t number);
std::optional<uint32_t> ggml_from_dtype(codec::DType dtype);
// "IQ4_XS", or "an unknown type"; for error messages.
std::string_view ggml_type_name(uint32_t number);

}  // namespace packlight::io

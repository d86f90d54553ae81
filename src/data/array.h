#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "codec/dtype.h"
#include "io/tensor_record.h"

namespace packlight::data {

// A tensor as a plain buffer that owns its bytes: F32, I64 or U8, row-major, little endian.
struct Array {
  codec::DType dtype = codec::DType::kF32;
  std::vector<int64_t> shape;  // outermost first
  std::vector<std::byte> bytes;

  // The elements; dtype must be the one asked for (Error Internal otherwise).
  std::span<const float> f32() const;
  std::span<const int64_t> i64() const;
  std::span<const uint8_t> u8() const;
  std::span<float> f32();
};

// Zeros. Errors: Corrupt for a negative dimension or one that overflows.
Array make_array(codec::DType dtype, std::vector<int64_t> shape);

// The type in which an array file's elements are handed on: floats as F32, signed integers as I64,
// U8 and booleans as U8. Errors: Unsupported for others.
codec::DType buffer_dtype(codec::DType dtype, const std::string& origin);

// Element range [begin, begin + product(shape)) of `record`, converted to
// buffer_dtype(record.dtype): F64 is rounded to F32. Errors: Internal for a range outside the
// record.
Array convert(const io::TensorRecord& record, int64_t begin, std::vector<int64_t> shape);

// "[3, 48, 320]"
std::string shape_text(std::span<const int64_t> shape);

}  // namespace packlight::data

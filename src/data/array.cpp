#include "data/array.h"

#include <fmt/format.h>
#include <cstring>

#include "base/fail.h"
#include "codec/half.h"

namespace packlight::data {
namespace {

using codec::DType;

void expect_dtype(const Array& array, DType dtype) {
  if (array.dtype != dtype) {
    fail(ErrorCode::kInternal, "[data] an array of {} read as {}", codec::info(array.dtype).name,
         codec::info(dtype).name);
  }
}

template <class From, class To, class Convert>
void convert_all(std::span<const std::byte> in, std::span<std::byte> out, Convert convert) {
  for (size_t i = 0; i < in.size() / sizeof(From); ++i) {
    From from;
    std::memcpy(&from, &in[i * sizeof(From)], sizeof(From));
    const To to = convert(from);
    std::memcpy(&out[i * sizeof(To)], &to, sizeof(To));
  }
}

template <class From, class To>
void convert_all(std::span<const std::byte> in, std::span<std::byte> out) {
  convert_all<From, To>(in, out, [](From x) { return static_cast<To>(x); });
}

}  // namespace

std::span<const float> Array::f32() const {
  expect_dtype(*this, DType::kF32);
  return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
}
std::span<float> Array::f32() {
  expect_dtype(*this, DType::kF32);
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}
std::span<const int64_t> Array::i64() const {
  expect_dtype(*this, DType::kI64);
  return {reinterpret_cast<const int64_t*>(bytes.data()), bytes.size() / sizeof(int64_t)};
}
std::span<const uint8_t> Array::u8() const {
  expect_dtype(*this, DType::kU8);
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

Array make_array(DType dtype, std::vector<int64_t> shape) {
  Array array{dtype, std::move(shape), {}};
  array.bytes.resize(io::tensor_bytes(dtype, array.shape, "sample", "data"));
  return array;
}

DType buffer_dtype(DType dtype, const std::string& origin) {
  switch (dtype) {
    case DType::kF64:
    case DType::kF32:
    case DType::kF16:
      return DType::kF32;
    case DType::kI64:
    case DType::kI32:
    case DType::kI16:
    case DType::kI8:
      return DType::kI64;
    case DType::kU8:
    case DType::kBool:
      return DType::kU8;
    default:
      fail(ErrorCode::kUnsupported, "[data] '{}': samples of type {} are not read here", origin,
           codec::info(dtype).name);
  }
}

Array convert(const io::TensorRecord& record, int64_t begin, std::vector<int64_t> shape) {
  Array array = make_array(buffer_dtype(record.dtype, record.name), std::move(shape));
  const auto out_size = static_cast<size_t>(codec::info(array.dtype).block_bytes);
  const auto in_size = static_cast<size_t>(codec::info(record.dtype).block_bytes);
  const size_t count = array.bytes.size() / out_size, total = record.bytes.size() / in_size;
  if (begin < 0 || static_cast<size_t>(begin) > total || count > total - begin) {
    fail(ErrorCode::kInternal, "[data] '{}': elements {}..{} of {}", record.name, begin,
         begin + count, total);
  }
  if (count == 0) return array;
  const auto in = record.bytes.subspan(begin * in_size, count * in_size);
  switch (record.dtype) {
    case DType::kF64:
      convert_all<double, float>(in, array.bytes);
      break;
    case DType::kF16:
      convert_all<uint16_t, float>(in, array.bytes, codec::f16_to_f32);
      break;
    case DType::kI32:
      convert_all<int32_t, int64_t>(in, array.bytes);
      break;
    case DType::kI16:
      convert_all<int16_t, int64_t>(in, array.bytes);
      break;
    case DType::kI8:
      convert_all<int8_t, int64_t>(in, array.bytes);
      break;
    default:
      std::memcpy(array.bytes.data(), in.data(), in.size());
  }
  return array;
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace packlight::data

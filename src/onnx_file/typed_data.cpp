#include "onnx_file/typed_data.h"

#include <fmt/format.h>

#include <cstring>
#include <vector>

#include "base/fail.h"
#include "onnx_file/model.h"
#include "operators/element_types.h"

namespace packlight::onnx_file {
namespace {

using codec::DType;

// Element types of ONNX that the message definition at hand may be too old to name.
constexpr int kUint4 = 21, kInt4 = 22;

bool is_4bit(int type) { return type == kUint4 || type == kInt4; }

std::optional<DType> dtype_of(int type) {
  if (type == kInt4) return DType::kI8;
  if (type == kUint4) return DType::kU8;
  return operators::dtype_of_onnx(type);
}

using Buffer = std::vector<std::byte>;

template <class To, class Field>
Buffer converted(const Field& field) {
  Buffer bytes(field.size() * sizeof(To));
  auto* out = bytes.data();
  for (const auto value : field) {
    const To element = static_cast<To>(value);
    std::memcpy(out, &element, sizeof element);
    out += sizeof element;
  }
  return bytes;
}

// Of elements of 8 or 16 bits, of either sign; the field has room for more than they hold.
template <class To>
Buffer narrowed(const onnx::TensorProto& t, std::string_view origin) {
  constexpr int kBits = 8 * sizeof(To);
  for (int i = 0; i < t.int32_data_size(); ++i) {
    const int32_t value = t.int32_data(i);
    if (value >= -(1 << (kBits - 1)) && value < 1 << kBits) continue;
    fail(ErrorCode::kCorrupt,
         "[onnx] '{}': tensor '{}': element {} is {}, which {} bits do not hold", origin, t.name(),
         i, value, kBits);
  }
  return converted<To>(t.int32_data());
}

// The typed field that holds elements of this type (onnx.proto, TensorProto).
Buffer typed_field(const onnx::TensorProto& t, std::string_view origin) {
  switch (t.data_type()) {
    case onnx::TensorProto::FLOAT:
      return converted<float>(t.float_data());
    case onnx::TensorProto::DOUBLE:
      return converted<double>(t.double_data());
    case onnx::TensorProto::INT64:
      return converted<int64_t>(t.int64_data());
    case onnx::TensorProto::INT32:
      return converted<int32_t>(t.int32_data());
    case onnx::TensorProto::FLOAT16:
    case onnx::TensorProto::BFLOAT16:
    case onnx::TensorProto::INT16:
      return narrowed<int16_t>(t, origin);
    default:
      return narrowed<int8_t>(t, origin);  // 8 bits, booleans, pairs of 4 bits
  }
}

size_t typed_count(const onnx::TensorProto& t) {
  return t.float_data_size() + t.double_data_size() + t.int64_data_size() + t.int32_data_size();
}

// Two elements a byte, the first in the low half.
Buffer unpack_4bit(std::span<const std::byte> packed, uint64_t count, bool is_signed) {
  Buffer out(count);
  for (uint64_t i = 0; i < count; ++i) {
    auto code = static_cast<int>(packed[i / 2]) >> (i % 2 * 4) & 15;
    if (is_signed && code >= 8) code -= 16;
    out[i] = static_cast<std::byte>(code);
  }
  return out;
}

void check_booleans(const io::TensorRecord& record, std::string_view origin) {
  for (size_t i = 0; i < record.bytes.size(); ++i) {
    if (record.bytes[i] > std::byte{1}) {
      fail(ErrorCode::kCorrupt, "[onnx] '{}': tensor '{}': element {} is {}, no boolean", origin,
           record.name, i, static_cast<int>(record.bytes[i]));
    }
  }
}

void own(io::TensorRecord& record, Buffer buffer) {
  auto owner = std::make_shared<const Buffer>(std::move(buffer));
  record.bytes = *owner;
  record.owner = std::move(owner);
}

}  // namespace

io::TensorRecord record_of(const onnx::TensorProto& tensor,
                           std::optional<std::span<const std::byte>> bytes,
                           std::shared_ptr<const void> owner, std::string_view origin) {
  const auto dtype = dtype_of(tensor.data_type());
  if (!dtype) {
    fail(ErrorCode::kUnsupported, "[onnx] '{}': tensor '{}': elements of type {} are not supported",
         origin, tensor.name(), data_type_name(tensor.data_type()));
  }
  io::TensorRecord record;
  record.name = tensor.name();
  record.dtype = *dtype;
  record.shape.assign(tensor.dims().begin(), tensor.dims().end());
  record.owner = std::move(owner);
  const uint64_t size = io::tensor_bytes(record.dtype, record.shape, record.name, origin);
  if (bytes) {
    record.bytes = *bytes;
  } else if (tensor.has_raw_data()) {
    if (typed_count(tensor) > 0) {
      fail(ErrorCode::kCorrupt,
           "[onnx] '{}': tensor '{}' has raw and typed data, so its content is not clear", origin,
           record.name);
    }
    record.bytes = std::as_bytes(std::span(tensor.raw_data()));
  } else {
    own(record, typed_field(tensor, origin));
  }
  const uint64_t stored = is_4bit(tensor.data_type()) ? size / 2 + size % 2 : size;
  if (record.bytes.size() != stored) {
    fail(ErrorCode::kCorrupt,
         "[onnx] '{}': tensor '{}' of shape [{}] and type {} takes {} bytes, the file has {}",
         origin, record.name, fmt::join(record.shape, ", "), data_type_name(tensor.data_type()),
         stored, record.bytes.size());
  }
  if (is_4bit(tensor.data_type()))
    own(record, unpack_4bit(record.bytes, size, tensor.data_type() == kInt4));
  if (record.dtype == DType::kBool) check_booleans(record, origin);
  io::align_record(record);
  return record;
}

}  // namespace packlight::onnx_file

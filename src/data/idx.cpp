#include "data/idx.h"

#include <algorithm>
#include <optional>

#include "base/fail.h"
#include "base/mapped_file.h"

namespace packlight::data {
namespace {

using codec::DType;

std::optional<DType> idx_type(std::byte code) {
  switch (std::to_integer<int>(code)) {
    case 0x08:
      return DType::kU8;
    case 0x09:
      return DType::kI8;
    case 0x0B:
      return DType::kI16;
    case 0x0C:
      return DType::kI32;
    case 0x0D:
      return DType::kF32;
    case 0x0E:
      return DType::kF64;
    default:
      return std::nullopt;
  }
}

int64_t big_endian_32(std::span<const std::byte> bytes) {
  int64_t value = 0;
  for (const std::byte b : bytes.first(4)) value = value << 8 | std::to_integer<int64_t>(b);
  return value;
}

}  // namespace

io::TensorRecord parse_idx(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                           const std::string& origin) {
  if (bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b})
    fail(ErrorCode::kUnsupported, "[idx] '{}': compressed by gzip; unpack it first", origin);
  if (bytes.size() < 4 || bytes[0] != std::byte{0} || bytes[1] != std::byte{0}) {
    fail(ErrorCode::kCorrupt, "[idx] '{}': {} bytes that do not start with two zero bytes", origin,
         bytes.size());
  }
  const auto dtype = idx_type(bytes[2]);
  if (!dtype) {
    fail(ErrorCode::kCorrupt, "[idx] '{}': type {:#04x} is none of IDX", origin,
         std::to_integer<int>(bytes[2]));
  }
  const auto rank = std::to_integer<size_t>(bytes[3]);
  if (rank == 0 || rank > 64 || bytes.size() < 4 + 4 * rank) {
    fail(ErrorCode::kCorrupt, "[idx] '{}': {} dimensions in a file of {} bytes", origin, rank,
         bytes.size());
  }
  io::TensorRecord record{"idx", *dtype, {}, bytes.subspan(4 + 4 * rank), std::move(owner)};
  for (size_t d = 0; d < rank; ++d) record.shape.push_back(big_endian_32(bytes.subspan(4 + 4 * d)));
  const uint64_t size = io::tensor_bytes(*dtype, record.shape, "idx", origin);
  if (size != record.bytes.size()) {
    fail(ErrorCode::kCorrupt, "[idx] '{}': {} bytes of data, its dimensions need {}", origin,
         record.bytes.size(), size);
  }
  if (const auto width = static_cast<size_t>(codec::info(*dtype).block_bytes); width > 1) {
    auto copy = std::make_shared<std::vector<std::byte>>(record.bytes.begin(), record.bytes.end());
    for (size_t i = 0; i < copy->size(); i += width)
      std::reverse(copy->data() + i, copy->data() + i + width);
    record.bytes = *copy;
    record.owner = std::move(copy);
  }
  return record;
}

io::TensorRecord read_idx(const std::filesystem::path& path) {
  auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse_idx(bytes, std::move(file), path.string());
}

}  // namespace packlight::data

#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "io/tensor_record.h"

namespace packlight::io {

// A GGUF metadata value. Arrays keep one vector per element type; an array of arrays is a vector of
// values.
struct GgufValue {
  using Variant = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, uint64_t,
                               int64_t, float, double, bool, std::string, std::vector<uint8_t>,
                               std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>,
                               std::vector<uint32_t>, std::vector<int32_t>, std::vector<uint64_t>,
                               std::vector<int64_t>, std::vector<float>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string>, std::vector<GgufValue>>;
  Variant value;
};

// A mapped GGUF v2/v3 file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
struct GgufFile {
  std::string path;  // for error messages
  uint32_t version = 3;
  uint32_t alignment = 32;
  std::vector<std::pair<std::string, GgufValue>> metadata;  // in file order
  std::vector<TensorRecord> tensors;                        // in file order

  const GgufValue* find(std::string_view key) const;
  const TensorRecord* find_tensor(std::string_view name) const;
  // Typed access; integers of any width convert when the value fits. The first form throws Corrupt
  // naming the key when it is missing or of another type, the second gives `fallback` when missing.
  int64_t integer(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t fallback) const;
  double number(std::string_view key) const;
  double number(std::string_view key, double fallback) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string_view text(std::string_view key) const;
  std::string_view text(std::string_view key, std::string_view fallback) const;
  const std::vector<std::string>& strings(std::string_view key) const;
};

// Errors: NotFound, Io; Corrupt for truncation, wrong magic, absurd counts, duplicate keys or
// names, offsets that overlap, leave the file or break the alignment; Unsupported for another
// version, big endian, or a tensor type we do not read (named, with the tensor).
GgufFile read_gguf(const std::filesystem::path& path);
// The same over bytes that `owner` keeps alive; `path` is for error messages.
GgufFile parse_gguf(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                    std::string path);

struct GgufTensorToWrite {
  std::string name;
  codec::DType dtype;          // dense float or GGML block
  std::vector<int64_t> shape;  // outermost first
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

// Writes v3, atomically, alignment 32. One tensor's bytes can also be made on demand: when `bytes`
// is empty and produce is given, it is called once per tensor in order.
void write_gguf(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, GgufValue>>& metadata,
                std::span<const GgufTensorToWrite> tensors,
                const std::function<std::vector<std::byte>(size_t index)>& produce = nullptr);

}  // namespace packlight::io

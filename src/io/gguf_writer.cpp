#include <type_traits>
#include <unordered_set>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "base/mapped_file.h"
#include "io/gguf.h"
#include "io/gguf_types.h"

namespace packlight::io {
namespace {

template <class T>
constexpr GgufType type_number() {
  if constexpr (std::is_same_v<T, uint8_t>) return GgufType::kU8;
  if constexpr (std::is_same_v<T, int8_t>) return GgufType::kI8;
  if constexpr (std::is_same_v<T, uint16_t>) return GgufType::kU16;
  if constexpr (std::is_same_v<T, int16_t>) return GgufType::kI16;
  if constexpr (std::is_same_v<T, uint32_t>) return GgufType::kU32;
  if constexpr (std::is_same_v<T, int32_t>) return GgufType::kI32;
  if constexpr (std::is_same_v<T, uint64_t>) return GgufType::kU64;
  if constexpr (std::is_same_v<T, int64_t>) return GgufType::kI64;
  if constexpr (std::is_same_v<T, float>) return GgufType::kF32;
  if constexpr (std::is_same_v<T, double>) return GgufType::kF64;
  if constexpr (std::is_same_v<T, bool>) return GgufType::kBool;
  if constexpr (std::is_same_v<T, std::string>) return GgufType::kString;
  return GgufType::kArray;
}

// Builds the head of the file in memory: kilobytes for a model, megabytes for a vocabulary.
class Head {
 public:
  template <class T>
  void scalar(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void type(GgufType type) { scalar(static_cast<uint32_t>(type)); }
  void string(std::string_view text) {
    scalar<uint64_t>(text.size());
    text_ += text;
  }

  void value(const GgufValue& value) {
    std::visit([&](const auto& v) { type(type_number<std::decay_t<decltype(v)>>()); }, value.value);
    payload(value);
  }

  std::string text_;

 private:
  void payload(const GgufValue& value) {
    std::visit([&](const auto& v) { element(v); }, value.value);
  }

  template <class T>
  void element(const T& value) {
    if constexpr (std::is_same_v<T, bool>)
      scalar<uint8_t>(value);
    else if constexpr (std::is_same_v<T, std::string>)
      string(value);
    else if constexpr (std::is_same_v<T, GgufValue>)
      payload(value);
    else
      scalar(value);
  }

  template <class T>
  void element(const std::vector<T>& list) {
    type(type_number<T>());
    scalar<uint64_t>(list.size());
    for (size_t i = 0; i < list.size(); ++i) {
      if constexpr (std::is_same_v<T, bool>)
        scalar<uint8_t>(list[i]);
      else
        element(list[i]);
    }
  }
};

uint64_t padding(uint64_t size) {
  return (kGgufDefaultAlignment - size % kGgufDefaultAlignment) % kGgufDefaultAlignment;
}

// Arrays inside an array carry their own element type, so only arrays may stand in one.
void check_value(const GgufValue& value, const std::string& key, const std::string& path) {
  const auto* nested = std::get_if<std::vector<GgufValue>>(&value.value);
  if (nested == nullptr) return;
  for (const GgufValue& item : *nested) {
    const bool is_array = std::visit(
        [](const auto& v) { return type_number<std::decay_t<decltype(v)>>() == GgufType::kArray; },
        item.value);
    if (!is_array) {
      fail(ErrorCode::kInvalidArgument,
           "[gguf] '{}' key '{}': an array of arrays holds a value that is no array", path, key);
    }
    check_value(item, key, path);
  }
}

uint32_t check_tensor(const GgufTensorToWrite& tensor, bool produced, const std::string& path) {
  const auto number = ggml_from_dtype(tensor.dtype);
  if (!number) {
    fail(ErrorCode::kInvalidArgument, "[gguf] '{}' tensor '{}': the format has no type {}", path,
         tensor.name, codec::info(tensor.dtype).name);
  }
  if (tensor.name.empty() || tensor.name.size() > kGgufMaxNameBytes) {
    fail(ErrorCode::kInvalidArgument, "[gguf] '{}' tensor '{}': a name has 1 to {} bytes", path,
         tensor.name, kGgufMaxNameBytes);
  }
  if (tensor.shape.empty() || tensor.shape.size() > kGgufMaxDims) {
    fail(ErrorCode::kInvalidArgument, "[gguf] '{}' tensor '{}': {} dimensions, 1 to {} are allowed",
         path, tensor.name, tensor.shape.size(), kGgufMaxDims);
  }
  const uint64_t size = tensor_bytes(tensor.dtype, tensor.shape, tensor.name, path);
  if (!(produced && tensor.bytes.empty()) && tensor.bytes.size() != size) {
    fail(ErrorCode::kInvalidArgument,
         "[gguf] '{}' tensor '{}': {} bytes given, {} and shape need {}", path, tensor.name,
         tensor.bytes.size(), codec::info(tensor.dtype).name, size);
  }
  return *number;
}

void add_metadata(Head& head, const std::vector<std::pair<std::string, GgufValue>>& metadata,
                  const std::string& path) {
  std::unordered_set<std::string_view> keys;
  for (const auto& [key, value] : metadata) {
    if (key == "general.alignment") {
      fail(ErrorCode::kInvalidArgument, "[gguf] '{}': the writer aligns to {}; do not give '{}'",
           path, kGgufDefaultAlignment, key);
    }
    if (!keys.insert(key).second)
      fail(ErrorCode::kInvalidArgument, "[gguf] '{}': key '{}' twice", path, key);
    check_value(value, key, path);
    head.string(key);
    head.value(value);
  }
}

void add_tensor_infos(Head& head, std::span<const GgufTensorToWrite> tensors, bool produced,
                      const std::string& path) {
  std::unordered_set<std::string_view> names;
  uint64_t offset = 0;
  for (const GgufTensorToWrite& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      fail(ErrorCode::kInvalidArgument, "[gguf] '{}': tensor '{}' twice", path, tensor.name);
    }
    const uint32_t type = check_tensor(tensor, produced, path);
    head.string(tensor.name);
    head.scalar(static_cast<uint32_t>(tensor.shape.size()));
    for (size_t i = tensor.shape.size(); i-- > 0;)
      head.scalar(static_cast<uint64_t>(tensor.shape[i]));
    head.scalar(type);
    head.scalar(offset);
    const uint64_t size = tensor_bytes(tensor.dtype, tensor.shape, tensor.name, path);
    offset += size + padding(size);
  }
}

}  // namespace

void write_gguf(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, GgufValue>>& metadata,
                std::span<const GgufTensorToWrite> tensors,
                const std::function<std::vector<std::byte>(size_t index)>& produce) {
  Head head;
  head.scalar(kGgufMagic);
  head.scalar(uint32_t{3});
  head.scalar<uint64_t>(tensors.size());
  head.scalar<uint64_t>(metadata.size());
  add_metadata(head, metadata, path.string());
  add_tensor_infos(head, tensors, produce != nullptr, path.string());
  base::AtomicFile file(path);
  file.write(head.text_);
  file.write_zeros(padding(head.text_.size()));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensorToWrite& tensor = tensors[i];
    const uint64_t size = tensor_bytes(tensor.dtype, tensor.shape, tensor.name, path.string());
    if (tensor.bytes.empty() && size > 0) {
      const std::vector<std::byte> made = produce(i);
      if (made.size() != size) {
        fail(ErrorCode::kInternal, "[gguf] tensor '{}': {} bytes were made, {} are needed",
             tensor.name, made.size(), size);
      }
      file.write(std::span(made));
    } else {
      file.write(tensor.bytes);
      base::release_pages(tensor.bytes);
    }
    file.write_zeros(padding(size));
  }
  file.commit();
}

}  // namespace packlight::io

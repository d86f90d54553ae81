#include "io/gguf.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "base/fail.h"
#include "io/gguf_types.h"

namespace packlight::io {
namespace {

using codec::DType;

struct GgmlType {
  uint32_t number;
  DType dtype;
};
constexpr std::array<GgmlType, 16> kGgmlTypes = {{
    {0, DType::kF32},
    {1, DType::kF16},
    {2, DType::kQ4_0},
    {3, DType::kQ4_1},
    {6, DType::kQ5_0},
    {7, DType::kQ5_1},
    {8, DType::kQ8_0},
    {12, DType::kQ4_K},
    {13, DType::kQ5_K},
    {14, DType::kQ6_K},
    {24, DType::kI8},
    {25, DType::kI16},
    {26, DType::kI32},
    {27, DType::kI64},
    {28, DType::kF64},
    {30, DType::kBF16},
}};

struct UnreadType {
  uint32_t number;
  std::string_view name;
};
constexpr std::array<UnreadType, 17> kUnreadTypes = {{
    {9, "Q8_1"},
    {10, "Q2_K"},
    {11, "Q3_K"},
    {15, "Q8_K"},
    {16, "IQ2_XXS"},
    {17, "IQ2_XS"},
    {18, "IQ3_XXS"},
    {19, "IQ1_S"},
    {20, "IQ4_NL"},
    {21, "IQ3_S"},
    {22, "IQ2_S"},
    {23, "IQ4_XS"},
    {29, "IQ1_M"},
    {34, "TQ1_0"},
    {35, "TQ2_0"},
    {39, "MXFP4"},
    {40, "NVFP4"},
}};

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

[[noreturn]] void missing(const GgufFile& file, std::string_view key) {
  fail(ErrorCode::kCorrupt, "[gguf] '{}': key '{}' is missing", file.path, key);
}

[[noreturn]] void wrong_type(const GgufFile& file, std::string_view key, std::string_view wanted) {
  fail(ErrorCode::kCorrupt, "[gguf] '{}': key '{}' does not hold {}", file.path, key, wanted);
}

const GgufValue& required(const GgufFile& file, std::string_view key) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) missing(file, key);
  return *value;
}

}  // namespace

int gguf_scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

std::optional<DType> dtype_from_ggml(uint32_t number) {
  for (const GgmlType& type : kGgmlTypes) {
    if (type.number == number) return type.dtype;
  }
  return std::nullopt;
}

std::optional<uint32_t> ggml_from_dtype(DType dtype) {
  for (const GgmlType& type : kGgmlTypes) {
    if (type.dtype == dtype) return type.number;
  }
  return std::nullopt;
}

std::string_view ggml_type_name(uint32_t number) {
  if (const auto dtype = dtype_from_ggml(number)) return codec::info(*dtype).name;
  for (const UnreadType& type : kUnreadTypes) {
    if (type.number == number) return type.name;
  }
  return "an unknown type";
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto it = std::find_if(metadata.begin(), metadata.end(),
                               [&](const auto& entry) { return entry.first == key; });
  return it == metadata.end() ? nullptr : &it->second;
}

const TensorRecord* GgufFile::find_tensor(std::string_view name) const {
  const auto it = std::find_if(tensors.begin(), tensors.end(),
                               [&](const TensorRecord& t) { return t.name == name; });
  return it == tensors.end() ? nullptr : &*it;
}

int64_t GgufFile::integer(std::string_view key) const {
  return std::visit(
      [&](const auto& v) -> int64_t {
        using T = std::decay_t<decltype(v)>;
        if constexpr (kIsInteger<T>) {
          if (std::in_range<int64_t>(v)) return static_cast<int64_t>(v);
        }
        wrong_type(*this, key, "an integer below 2^63");
      },
      required(*this, key).value);
}

int64_t GgufFile::integer(std::string_view key, int64_t fallback) const {
  return find(key) == nullptr ? fallback : integer(key);
}

double GgufFile::number(std::string_view key) const {
  return std::visit(
      [&](const auto& v) -> double {
        using T = std::decay_t<decltype(v)>;
        if constexpr (kIsInteger<T> || std::is_floating_point_v<T>) return static_cast<double>(v);
        wrong_type(*this, key, "a number");
      },
      required(*this, key).value);
}

double GgufFile::number(std::string_view key, double fallback) const {
  return find(key) == nullptr ? fallback : number(key);
}

bool GgufFile::boolean(std::string_view key, bool fallback) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return fallback;
  const bool* b = std::get_if<bool>(&value->value);
  if (b == nullptr) wrong_type(*this, key, "a boolean");
  return *b;
}

std::string_view GgufFile::text(std::string_view key) const {
  const std::string* s = std::get_if<std::string>(&required(*this, key).value);
  if (s == nullptr) wrong_type(*this, key, "text");
  return *s;
}

std::string_view GgufFile::text(std::string_view key, std::string_view fallback) const {
  return find(key) == nullptr ? fallback : text(key);
}

const std::vector<std::string>& GgufFile::strings(std::string_view key) const {
  const auto* list = std::get_if<std::vector<std::string>>(&required(*this, key).value);
  if (list == nullptr) wrong_type(*this, key, "a list of texts");
  return *list;
}

}  // namespace packlight::io

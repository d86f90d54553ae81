#include "io/npy.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "base/mapped_file.h"

namespace packlight::io {
namespace {

using codec::DType;

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeaderBytes = 65536;  // NumPy itself trusts no header beyond 10000
constexpr size_t kMaxRank = 64;            // NumPy's limit

struct TypeCode {
  std::string_view code;  // without the byte order
  DType dtype;
};
constexpr std::array<TypeCode, 9> kTypes = {{{"f8", DType::kF64},
                                             {"f4", DType::kF32},
                                             {"f2", DType::kF16},
                                             {"i8", DType::kI64},
                                             {"i4", DType::kI32},
                                             {"i2", DType::kI16},
                                             {"i1", DType::kI8},
                                             {"u1", DType::kU8},
                                             {"b1", DType::kBool}}};

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// The header is a Python dictionary, written as text:
//   {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {}

  Header parse() {
    Header header;
    bool has_descr = false, has_order = false, has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      bool* seen = key == "descr"           ? &has_descr
                   : key == "fortran_order" ? &has_order
                   : key == "shape"         ? &has_shape
                                            : nullptr;
      if (seen == nullptr) corrupt("unknown key '{}'", key);
      if (std::exchange(*seen, true)) corrupt("'{}' twice", key);
      expect(':');
      if (seen == &has_descr) header.descr = descr();
      if (seen == &has_order) header.fortran_order = boolean();
      if (seen == &has_shape) header.shape = tuple();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (position_ != text_.size()) corrupt("text after the closing brace");
    if (!has_descr || !has_order || !has_shape)
      corrupt("'descr', 'fortran_order' or 'shape' missing");
    return header;
  }

 private:
  template <class... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> text, Args&&... args) {
    fail(ErrorCode::kCorrupt, "[npy] '{}': header: {} (near character {})", origin_,
         fmt::format(text, std::forward<Args>(args)...), position_);
  }

  void skip_space() {
    while (position_ < text_.size() &&
           std::string_view(" \t\n\r").find(text_[position_]) != std::string_view::npos)
      ++position_;
  }
  bool accept(char c) {
    skip_space();
    if (position_ >= text_.size() || text_[position_] != c) return false;
    ++position_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) corrupt("'{}' expected", c);
  }
  bool accept_word(std::string_view word) {
    skip_space();
    if (text_.substr(position_, word.size()) != word) return false;
    position_ += word.size();
    return true;
  }

  std::string quoted() {
    const char quote = accept('\'') ? '\'' : accept('"') ? '"' : '\0';
    if (quote == '\0') corrupt("a quoted text expected");
    const size_t end = text_.find(quote, position_);
    if (end == std::string_view::npos) corrupt("a text without its closing quote");
    std::string out(text_.substr(position_, end - position_));
    position_ = end + 1;
    return out;
  }

  std::string descr() {
    skip_space();
    if (position_ < text_.size() && text_[position_] == '[') {
      fail(ErrorCode::kUnsupported, "[npy] '{}': structured arrays are not read here", origin_);
    }
    return quoted();
  }

  bool boolean() {
    if (accept_word("True")) return true;
    if (accept_word("False")) return false;
    corrupt("True or False expected");
  }

  int64_t dimension() {
    skip_space();
    if (position_ < text_.size() && text_[position_] == '-') corrupt("a negative dimension");
    const size_t start = position_;
    int64_t value = 0;
    while (position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9') {
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, text_[position_] - '0', &value)) {
        corrupt("an absurd dimension");
      }
      ++position_;
    }
    if (position_ == start) corrupt("a dimension expected");
    accept('L');  // Python 2 wrote long integers so
    return value;
  }

  std::vector<int64_t> tuple() {
    std::vector<int64_t> out;
    expect('(');
    while (!accept(')')) {
      if (out.size() >= kMaxRank) corrupt("more than {} dimensions", kMaxRank);
      out.push_back(dimension());
      if (!accept(',')) {
        expect(')');
        if (out.size() == 1) corrupt("a single dimension without its comma is no tuple");
        break;
      }
    }
    return out;
  }

  std::string_view text_;
  const std::string& origin_;
  size_t position_ = 0;
};

struct Layout {
  std::string_view header;
  size_t data_begin;
};

Layout find_header(std::span<const std::byte> bytes, const std::string& origin) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.size() < kMagic.size() + 2 || !text.starts_with(kMagic)) {
    fail(ErrorCode::kCorrupt, "[npy] '{}': {} bytes that do not start with NumPy's magic", origin,
         bytes.size());
  }
  const int major = std::to_integer<int>(bytes[6]), minor = std::to_integer<int>(bytes[7]);
  if (major < 1 || major > 3 || minor != 0) {
    fail(ErrorCode::kUnsupported, "[npy] '{}': version {}.{}, versions 1.0 to 3.0 are read here",
         origin, major, minor);
  }
  const size_t length_bytes = major == 1 ? 2 : 4, begin = kMagic.size() + 2 + length_bytes;
  if (bytes.size() < begin) {
    fail(ErrorCode::kCorrupt, "[npy] '{}': {} bytes are too few for a header", origin,
         bytes.size());
  }
  size_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i)
    length |= std::to_integer<size_t>(bytes[kMagic.size() + 2 + i]) << (8 * i);
  if (length > kMaxHeaderBytes || length > bytes.size() - begin) {
    fail(ErrorCode::kCorrupt, "[npy] '{}': a header of {} bytes in a file of {} (limit {})", origin,
         length, bytes.size(), kMaxHeaderBytes);
  }
  return {text.substr(begin, length), begin + length};
}

struct ElementType {
  DType dtype;
  bool big_endian;
};

ElementType element_type(const std::string& descr, const std::string& origin) {
  const char order = descr.empty() ? '\0' : descr.front();
  const std::string_view code =
      descr.empty() ? std::string_view() : std::string_view(descr).substr(1);
  for (const TypeCode& type : kTypes) {
    if (type.code != code) continue;
    const bool one_byte = code.back() == '1';
    // "=" (the writer's own order) never reaches a file; a single byte has no order.
    if (order == '<' || order == '>' || (order == '|' && one_byte))
      return {type.dtype, order == '>' && !one_byte};
  }
  fail(ErrorCode::kUnsupported,
       "[npy] '{}': type '{}' is not read here (f8 f4 f2 i8 i4 i2 i1 u1 b1 are)", origin, descr);
}

// Column-major elements to row-major ones.
std::vector<std::byte> from_fortran(std::span<const std::byte> in, std::span<const int64_t> shape,
                                    size_t element_bytes) {
  std::vector<std::byte> out(in.size());
  std::vector<size_t> strides(shape.size());
  size_t stride = element_bytes;
  for (size_t d = 0; d < shape.size(); ++d) {
    strides[d] = stride;
    stride *= static_cast<size_t>(shape[d]);
  }
  std::vector<int64_t> index(shape.size(), 0);
  size_t from = 0;
  for (size_t to = 0; to < out.size(); to += element_bytes) {
    std::memcpy(&out[to], &in[from], element_bytes);
    for (size_t d = shape.size(); d-- > 0;) {
      from += strides[d];
      if (++index[d] < shape[d]) break;
      from -= strides[d] * static_cast<size_t>(shape[d]);
      index[d] = 0;
    }
  }
  return out;
}

void replace_bytes(TensorRecord& record, std::vector<std::byte> bytes) {
  auto copy = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  record.bytes = *copy;
  record.owner = std::move(copy);
}

void swap_bytes(TensorRecord& record, size_t element_bytes) {
  std::vector<std::byte> swapped(record.bytes.begin(), record.bytes.end());
  for (size_t i = 0; i < swapped.size(); i += element_bytes)
    std::reverse(&swapped[i], &swapped[i] + element_bytes);
  replace_bytes(record, std::move(swapped));
}

}  // namespace

TensorRecord parse_npy(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                       const std::string& origin, std::string name) {
  const Layout layout = find_header(bytes, origin);
  Header header = HeaderParser(layout.header, origin).parse();
  const ElementType type = element_type(header.descr, origin);
  const uint64_t size = tensor_bytes(type.dtype, header.shape, name, origin);
  const auto data = bytes.subspan(layout.data_begin);
  if (size != data.size()) {
    fail(ErrorCode::kCorrupt,
         "[npy] '{}': {} bytes of data, its type {} and shape need {}: the file is {}", origin,
         data.size(), header.descr, size,
         data.size() < size ? "truncated or damaged" : "damaged or holds more than one array");
  }
  TensorRecord record{std::move(name), type.dtype, std::move(header.shape), data, std::move(owner)};
  const auto element_bytes = static_cast<size_t>(codec::info(type.dtype).block_bytes);
  if (type.dtype == DType::kBool) {
    const auto bad =
        std::find_if(data.begin(), data.end(), [](std::byte b) { return b > std::byte{1}; });
    if (bad != data.end()) {
      fail(ErrorCode::kCorrupt, "[npy] '{}': element {} is {}, a boolean is 0 or 1", origin,
           bad - data.begin(), std::to_integer<int>(*bad));
    }
  }
  if (type.big_endian && size > 0) swap_bytes(record, element_bytes);
  if (header.fortran_order && record.shape.size() > 1 && size > 0)
    replace_bytes(record, from_fortran(record.bytes, record.shape, element_bytes));
  align_record(record);
  return record;
}

TensorRecord read_npy(const std::filesystem::path& path) {
  auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse_npy(bytes, std::move(file), path.string(), path.stem().string());
}

void write_npy(const std::filesystem::path& path, DType dtype, std::span<const int64_t> shape,
               std::span<const std::byte> bytes) {
  const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                 [&](const TypeCode& t) { return t.dtype == dtype; });
  if (type == kTypes.end()) {
    fail(ErrorCode::kInvalidArgument, "[npy] '{}': NPY has no type for {}", path.string(),
         codec::info(dtype).name);
  }
  if (const uint64_t size = tensor_bytes(dtype, shape, "", path.string()); size != bytes.size()) {
    fail(ErrorCode::kInvalidArgument, "[npy] '{}': {} bytes given, type and shape need {}",
         path.string(), bytes.size(), size);
  }
  std::string dims;
  for (const int64_t dim : shape) dims += fmt::format("{}, ", dim);
  if (shape.size() > 1) dims.resize(dims.size() - 2);
  std::string header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}",
                                   type->code.back() == '1' ? '|' : '<', type->code, dims);
  const size_t before = kMagic.size() + 4;
  header.append(63 - (before + header.size()) % 64, ' ');
  header += '\n';
  if (header.size() > 0xffff) {
    fail(ErrorCode::kInvalidArgument, "[npy] '{}': a shape of {} dimensions", path.string(),
         shape.size());
  }
  base::AtomicFile file(path);
  file.write(kMagic);
  const unsigned char prefix[] = {1, 0, static_cast<unsigned char>(header.size() & 0xff),
                                  static_cast<unsigned char>(header.size() >> 8)};
  file.write(std::as_bytes(std::span(prefix)));
  file.write(header);
  file.write(bytes);
  file.commit();
}

}  // namespace packlight::io

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <unordered_set>

#include "base/fail.h"
#include "base/mapped_file.h"
#include "io/gguf.h"
#include "io/gguf_types.h"

namespace packlight::io {
namespace {

constexpr int kMaxArrayDepth = 8;
constexpr uint64_t kMinKeyValueBytes = 8 + 4 + 1;        // empty key, type, the smallest value
constexpr uint64_t kMinTensorInfoBytes = 8 + 4 + 4 + 8;  // empty name, no dimensions, type, offset

// Reads little-endian values from the front of a file; never past its end.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  template <class T>
  T read(std::string_view what) {
    T value;
    need(sizeof(T), what);
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string read_string(std::string_view what) {
    const auto size = read<uint64_t>(what);
    need(size, what);
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, size);
    position_ += size;
    return text;
  }

  // A count of things that take at least `least_bytes` each; so a wrong one cannot ask for absurd
  // memory.
  uint64_t read_count(uint64_t least_bytes, std::string_view what) {
    const auto count = read<uint64_t>(what);
    if (count > remaining() / least_bytes) {
      fail(ErrorCode::kCorrupt, "[gguf] '{}': {} counts {} at byte {}, but only {} bytes follow", path_,
           what, count, position_, remaining());
    }
    return count;
  }

 private:
  void need(uint64_t count, std::string_view what) const {
    if (count > remaining()) {
      fail(ErrorCode::kCorrupt, "[gguf] '{}': {} needs {} bytes at byte {} of {}", path_, what,
           count, position_, bytes_.size());
    }
  }

  std::span<const std::byte> bytes_;
  const std::string& path_;
  uint64_t position_ = 0;
};

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, GgufFile& file)
      : bytes_(bytes), owner_(std::move(owner)), file_(file), cursor_(bytes, file.path) {}

  void parse() {
    read_version();
    const auto tensor_count = cursor_.read<uint64_t>("tensor count");
    const auto key_count = cursor_.read_count(kMinKeyValueBytes, "metadata count");
    for (uint64_t i = 0; i < key_count; ++i) read_key_value();
    read_alignment();
    if (tensor_count > cursor_.remaining() / kMinTensorInfoBytes) {
      fail(ErrorCode::kCorrupt, "[gguf] '{}': {} tensors cannot be described in {} bytes",
           file_.path, tensor_count, cursor_.remaining());
    }
    std::vector<uint64_t> offsets;
    for (uint64_t i = 0; i < tensor_count; ++i) offsets.push_back(read_tensor_info());
    place_tensors(offsets);
  }

 private:
  void read_version() {
    const auto magic = cursor_.read<uint32_t>("magic");
    if (magic != kGgufMagic) {
      fail(ErrorCode::kCorrupt, "[gguf] '{}': magic {:#010x} is not GGUF", file_.path, magic);
    }
    file_.version = cursor_.read<uint32_t>("version");
    if (file_.version != 2 && file_.version != 3) {
      const bool swapped = (file_.version & 0xffff) == 0;
      fail(ErrorCode::kUnsupported, "[gguf] '{}': {} {}; versions 2 and 3, little endian, are read",
           file_.path, swapped ? "big-endian file, version" : "version",
           swapped ? __builtin_bswap32(file_.version) : file_.version);
    }
  }

  void read_key_value() {
    std::string key = cursor_.read_string("metadata key");
    if (!keys_.insert(key).second)
      fail(ErrorCode::kCorrupt, "[gguf] '{}': key '{}' twice", file_.path, key);
    const auto type = cursor_.read<uint32_t>(key);
    GgufValue value = read_value(type, key, 0);
    file_.metadata.emplace_back(std::move(key), std::move(value));
  }

  GgufValue read_value(uint32_t type, const std::string& key, int depth) {
    switch (static_cast<GgufType>(type)) {
      case GgufType::kU8:
        return {cursor_.read<uint8_t>(key)};
      case GgufType::kI8:
        return {cursor_.read<int8_t>(key)};
      case GgufType::kU16:
        return {cursor_.read<uint16_t>(key)};
      case GgufType::kI16:
        return {cursor_.read<int16_t>(key)};
      case GgufType::kU32:
        return {cursor_.read<uint32_t>(key)};
      case GgufType::kI32:
        return {cursor_.read<int32_t>(key)};
      case GgufType::kF32:
        return {cursor_.read<float>(key)};
      case GgufType::kBool:
        return {read_bool(key)};
      case GgufType::kString:
        return {cursor_.read_string(key)};
      case GgufType::kArray:
        return read_array(key, depth + 1);
      case GgufType::kU64:
        return {cursor_.read<uint64_t>(key)};
      case GgufType::kI64:
        return {cursor_.read<int64_t>(key)};
      case GgufType::kF64:
        return {cursor_.read<double>(key)};
    }
    fail(ErrorCode::kCorrupt, "[gguf] '{}': key '{}' has the unknown value type {}", file_.path,
         key, type);
  }

  bool read_bool(const std::string& key) {
    const auto value = cursor_.read<uint8_t>(key);
    if (value > 1)
      fail(ErrorCode::kCorrupt, "[gguf] '{}': key '{}' has the boolean {}", file_.path, key, value);
    return value != 0;
  }

  GgufValue read_array(const std::string& key, int depth) {
    if (depth > kMaxArrayDepth) {
      fail(ErrorCode::kCorrupt, "[gguf] '{}': key '{}' nests arrays deeper than {}", file_.path,
           key, kMaxArrayDepth);
    }
    const auto type = cursor_.read<uint32_t>(key);
    switch (static_cast<GgufType>(type)) {
      case GgufType::kU8:
        return {read_list<uint8_t>(key)};
      case GgufType::kI8:
        return {read_list<int8_t>(key)};
      case GgufType::kU16:
        return {read_list<uint16_t>(key)};
      case GgufType::kI16:
        return {read_list<int16_t>(key)};
      case GgufType::kU32:
        return {read_list<uint32_t>(key)};
      case GgufType::kI32:
        return {read_list<int32_t>(key)};
      case GgufType::kF32:
        return {read_list<float>(key)};
      case GgufType::kBool:
        return {read_list<bool>(key)};
      case GgufType::kString:
        return {read_list<std::string>(key)};
      case GgufType::kArray:
        return {read_nested(key, depth)};
      case GgufType::kU64:
        return {read_list<uint64_t>(key)};
      case GgufType::kI64:
        return {read_list<int64_t>(key)};
      case GgufType::kF64:
        return {read_list<double>(key)};
    }
    fail(ErrorCode::kCorrupt, "[gguf] '{}': key '{}' has the unknown element type {}", file_.path,
         key, type);
  }

  template <class T>
  std::vector<T> read_list(const std::string& key) {
    const uint64_t count = cursor_.read_count(std::is_same_v<T, std::string> ? 8 : sizeof(T), key);
    std::vector<T> list;
    list.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      if constexpr (std::is_same_v<T, std::string>)
        list.push_back(cursor_.read_string(key));
      else if constexpr (std::is_same_v<T, bool>)
        list.push_back(read_bool(key));
      else
        list.push_back(cursor_.read<T>(key));
    }
    return list;
  }

  std::vector<GgufValue> read_nested(const std::string& key, int depth) {
    const uint64_t count = cursor_.read_count(4 + 8, key);
    std::vector<GgufValue> list;
    list.reserve(count);
    for (uint64_t i = 0; i < count; ++i) list.push_back(read_array(key, depth + 1));
    return list;
  }

  void read_alignment() {
    const int64_t alignment = file_.integer("general.alignment", kGgufDefaultAlignment);
    if (alignment < 1 || alignment > (1 << 30) ||
        !std::has_single_bit(static_cast<uint64_t>(alignment))) {
      fail(ErrorCode::kCorrupt, "[gguf] '{}': general.alignment {} is no power of two", file_.path,
           alignment);
    }
    file_.alignment = static_cast<uint32_t>(alignment);
  }

  // Appends a record without bytes and returns the tensor's offset in the data.
  uint64_t read_tensor_info() {
    TensorRecord record;
    record.name = cursor_.read_string("tensor name");
    if (!names_.insert(record.name).second) {
      fail(ErrorCode::kCorrupt, "[gguf] '{}': tensor '{}' twice", file_.path, record.name);
    }
    const auto dims = cursor_.read<uint32_t>(record.name);
    if (dims > kGgufMaxDims) {
      fail(ErrorCode::kCorrupt, "[gguf] '{}' tensor '{}': {} dimensions, at most {} are allowed",
           file_.path, record.name, dims, kGgufMaxDims);
    }
    for (uint32_t i = 0; i < dims; ++i) {
      const auto dim = cursor_.read<uint64_t>(record.name);
      if (dim > INT64_MAX) {
        fail(ErrorCode::kCorrupt, "[gguf] '{}' tensor '{}': dimension {}", file_.path, record.name,
             dim);
      }
      record.shape.push_back(static_cast<int64_t>(dim));
    }
    std::reverse(record.shape.begin(), record.shape.end());  // GGUF lists the innermost first
    const auto type = cursor_.read<uint32_t>(record.name);
    const auto dtype = dtype_from_ggml(type);
    if (!dtype) {
      fail(ErrorCode::kUnsupported, "[gguf] '{}' tensor '{}': {} (type {}) is not read here",
           file_.path, record.name, ggml_type_name(type), type);
    }
    record.dtype = *dtype;
    const auto offset = cursor_.read<uint64_t>(record.name);
    file_.tensors.push_back(std::move(record));
    return offset;
  }

  // Gives every record its bytes: aligned, inside the file, none overlapping another.
  void place_tensors(const std::vector<uint64_t>& offsets) {
    const uint64_t alignment = file_.alignment;
    const uint64_t data_begin = (cursor_.position() + alignment - 1) / alignment * alignment;
    const uint64_t data_bytes = bytes_.size() > data_begin ? bytes_.size() - data_begin : 0;
    struct Range {
      uint64_t begin, end;
      size_t tensor;
    };
    std::vector<Range> ranges;
    ranges.reserve(offsets.size());
    for (size_t i = 0; i < offsets.size(); ++i) {
      TensorRecord& record = file_.tensors[i];
      const uint64_t size = tensor_bytes(record.dtype, record.shape, record.name, file_.path);
      if (offsets[i] % alignment != 0) {
        fail(ErrorCode::kCorrupt, "[gguf] '{}' tensor '{}': offset {} is misaligned (to {})",
             file_.path, record.name, offsets[i], alignment);
      }
      if (offsets[i] > data_bytes || size > data_bytes - offsets[i]) {
        fail(ErrorCode::kCorrupt,
             "[gguf] '{}' tensor '{}': {} bytes at offset {}, but the file holds {} bytes of data: "
             "it is truncated or damaged",
             file_.path, record.name, size, offsets[i], data_bytes);
      }
      if (size == 0) continue;
      record.bytes = bytes_.subspan(data_begin + offsets[i], size);
      ranges.push_back({offsets[i], offsets[i] + size, i});
    }
    std::sort(ranges.begin(), ranges.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < ranges.size(); ++i) {
      if (ranges[i].begin < ranges[i - 1].end) {
        fail(ErrorCode::kCorrupt, "[gguf] '{}': tensors '{}' and '{}' overlap", file_.path,
             file_.tensors[ranges[i - 1].tensor].name, file_.tensors[ranges[i].tensor].name);
      }
    }
    for (TensorRecord& record : file_.tensors) {
      record.owner = owner_;
      align_record(record);
    }
  }

  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
  GgufFile& file_;
  Cursor cursor_;
  std::unordered_set<std::string> keys_, names_;
};

}  // namespace

GgufFile parse_gguf(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                    std::string path) {
  GgufFile file;
  file.path = std::move(path);
  Parser(bytes, std::move(owner), file).parse();
  return file;
}

GgufFile read_gguf(const std::filesystem::path& path) {
  auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse_gguf(bytes, std::move(file), path.string());
}

}  // namespace packlight::io

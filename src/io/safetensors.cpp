#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/fail.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace packlight::io {
namespace {

using codec::DType;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit

struct Entry {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::vector<uint64_t> offsets;
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

// Receives the header as it is parsed: no document is built, so a header of any size takes linear
// time.
//   { "NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"KEY":
//   "TEXT"} }
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderHandler(const std::string& origin, std::map<std::string, std::string>* metadata)
      : origin_(origin), metadata_(metadata) {}
  std::vector<Entry> entries;

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ != 2 || !in_array_ || in_metadata_) return unexpected("a number");
    if (key_ == "shape") {
      if (value > INT64_MAX || entries.back().shape.size() >= 64)
        return unexpected("an absurd dimension");
      entries.back().shape.push_back(static_cast<int64_t>(value));
    } else {
      if (entries.back().offsets.size() >= 2) return unexpected("a third offset");
      entries.back().offsets.push_back(value);
    }
    return true;
  }

  bool string(string_t& value) override {
    if (depth_ != 2 || in_array_) return unexpected("a text");
    if (in_metadata_) {
      if (!metadata_->emplace(key_, std::move(value)).second)
        corrupt("metadata key '{}' twice", key_);
      return true;
    }
    if (key_ != "dtype") return unexpected("a text");
    entries.back().dtype = std::move(value);
    return true;
  }

  bool start_object(std::size_t) override {
    if (in_array_ || depth_ >= 2) return unexpected("an object");
    ++depth_;
    return true;
  }

  bool key(string_t& value) override {
    key_ = std::move(value);
    if (depth_ == 1) return start_entry();
    if (in_metadata_) return true;
    bool* seen = key_ == "dtype"          ? &entries.back().has_dtype
                 : key_ == "shape"        ? &entries.back().has_shape
                 : key_ == "data_offsets" ? &entries.back().has_offsets
                                          : nullptr;
    if (seen == nullptr) return unexpected("an unknown key");
    if (*seen) corrupt("tensor '{}' has '{}' twice", entries.back().name, key_);
    return *seen = true;
  }

  bool end_object() override {
    --depth_;
    in_metadata_ = false;
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_array_ || in_metadata_ || (key_ != "shape" && key_ != "data_offsets")) {
      return unexpected("a list");
    }
    return in_array_ = true;
  }

  bool end_array() override {
    in_array_ = false;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& e) override {
    fail(ErrorCode::kCorrupt, "[safetensors] '{}': header: {}", origin_, e.what());
  }

 private:
  template <class... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> text, Args&&... args) {
    fail(ErrorCode::kCorrupt, "[safetensors] '{}': header: {}", origin_,
         fmt::format(text, std::forward<Args>(args)...));
  }

  bool unexpected(const char* what) { corrupt("{} at key '{}'", what, key_); }

  bool start_entry() {
    in_metadata_ = key_ == "__metadata__";
    if (!in_metadata_) {
      entries.emplace_back().name = key_;
    } else if (std::exchange(metadata_seen_, true)) {
      corrupt("'__metadata__' twice");
    }
    return true;
  }

  const std::string& origin_;
  std::map<std::string, std::string>* metadata_;
  std::string key_;
  int depth_ = 0;
  bool in_array_ = false, in_metadata_ = false, metadata_seen_ = false;
};

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                            DType::kI32, DType::kI16, DType::kI8, DType::kU8, DType::kBool}) {
    if (codec::info(dtype).name == name) return dtype;
  }
  return std::nullopt;
}

void check_names_unique(const std::vector<Entry>& entries, const std::string& origin) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const Entry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end())
    fail(ErrorCode::kCorrupt, "[safetensors] '{}': tensor '{}' twice", origin, *twice);
}

// Offsets must follow each other from 0 to the end of the data without hole or overlap.
TensorRecord make_record(Entry& entry, uint64_t expected_begin, std::span<const std::byte> data,
                         const std::shared_ptr<const void>& owner, const std::string& origin) {
  const auto dtype = dtype_from_name(entry.dtype);
  if (!dtype) {
    fail(ErrorCode::kUnsupported, "[safetensors] '{}' tensor '{}': dtype '{}' is not read here",
         origin, entry.name, entry.dtype);
  }
  const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
  if (begin == expected_begin && end >= begin && end > data.size()) {
    fail(ErrorCode::kCorrupt,
         "[safetensors] '{}' tensor '{}': bytes {}..{}, but the file holds {} bytes of data: it is "
         "truncated or damaged",
         origin, entry.name, begin, end, data.size());
  }
  if (begin != expected_begin || end < begin) {
    fail(ErrorCode::kCorrupt,
         "[safetensors] '{}' tensor '{}': bytes {}..{} do not follow byte {} inside {} bytes of "
         "data",
         origin, entry.name, begin, end, expected_begin, data.size());
  }
  const uint64_t size = tensor_bytes(*dtype, entry.shape, entry.name, origin);
  if (size != end - begin) {
    fail(ErrorCode::kCorrupt, "[safetensors] '{}' tensor '{}': {} bytes, its {} and shape need {}",
         origin, entry.name, end - begin, entry.dtype, size);
  }
  TensorRecord record{std::move(entry.name), *dtype, std::move(entry.shape),
                      data.subspan(begin, size), owner};
  align_record(record);
  return record;
}

std::string_view header_text(std::span<const std::byte> bytes, const std::string& origin) {
  uint64_t size = 0;
  if (bytes.size() < sizeof(size)) {
    fail(ErrorCode::kCorrupt, "[safetensors] '{}': {} bytes are too few for a header", origin,
         bytes.size());
  }
  std::memcpy(&size, bytes.data(), sizeof(size));
  if (size > kMaxHeaderBytes || size > bytes.size() - sizeof(size)) {
    fail(ErrorCode::kCorrupt, "[safetensors] '{}': a header of {} bytes in a file of {} (limit {})",
         origin, size, bytes.size(), kMaxHeaderBytes);
  }
  return {reinterpret_cast<const char*>(bytes.data()) + sizeof(size), size};
}

}  // namespace

const TensorRecord* SafetensorsFile::find(std::string_view name) const {
  const auto it = std::find_if(tensors.begin(), tensors.end(),
                               [&](const TensorRecord& t) { return t.name == name; });
  return it == tensors.end() ? nullptr : &*it;
}

SafetensorsFile parse_safetensors(std::span<const std::byte> bytes,
                                  std::shared_ptr<const void> owner, const std::string& origin) {
  const std::string_view header = header_text(bytes, origin);
  if (header.empty() || header.front() != '{') {
    fail(ErrorCode::kCorrupt, "[safetensors] '{}': the header does not start with '{{'", origin);
  }
  SafetensorsFile file;
  HeaderHandler handler(origin, &file.metadata);
  nlohmann::json::sax_parse(header.begin(), header.end(), &handler);
  std::vector<Entry>& entries = handler.entries;
  for (const Entry& entry : entries) {
    if (!entry.has_dtype || !entry.has_shape || entry.offsets.size() != 2) {
      fail(ErrorCode::kCorrupt,
           "[safetensors] '{}' tensor '{}': dtype, shape or data_offsets missing", origin,
           entry.name);
    }
  }
  check_names_unique(entries, origin);
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  const auto data = bytes.subspan(sizeof(uint64_t) + header.size());
  uint64_t position = 0;
  file.tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    const uint64_t end = entry.offsets[1];
    file.tensors.push_back(make_record(entry, position, data, owner, origin));
    position = end;
  }
  if (position != data.size()) {
    fail(ErrorCode::kCorrupt, "[safetensors] '{}': tensors end at byte {} of {} bytes of data",
         origin, position, data.size());
  }
  return file;
}

SafetensorsFile read_safetensors(const std::filesystem::path& path) {
  auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse_safetensors(bytes, std::move(file), path.string());
}

}  // namespace packlight::io

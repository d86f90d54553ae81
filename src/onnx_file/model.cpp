#include "onnx_file/model.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <vector>

#include "base/fail.h"
#include "onnx_file/typed_data.h"

namespace packlight::onnx_file {
namespace {

namespace fs = std::filesystem;

// Numbers of TensorProto.DataType, in order.
constexpr std::array kTypeNames = {
    "UNDEFINED",      "FLOAT",      "UINT8",          "INT8",       "UINT16",   "INT16",
    "INT32",          "INT64",      "STRING",         "BOOL",       "FLOAT16",  "DOUBLE",
    "UINT32",         "UINT64",     "COMPLEX64",      "COMPLEX128", "BFLOAT16", "FLOAT8E4M3FN",
    "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "UINT4",      "INT4",     "FLOAT4E2M1"};

// Parse errors reach the user as an Error; protobuf's own words would go to standard error besides.
void silence_protobuf() {
  static const bool once = [] {
    google::protobuf::SetLogHandler(nullptr);
    return true;
  }();
  (void)once;
}

template <class Message>
void parse(Message& message, std::span<const std::byte> bytes, const fs::path& path,
           const char* what) {
  silence_protobuf();
  if (bytes.size() > static_cast<size_t>(std::numeric_limits<int>::max())) {
    fail(ErrorCode::kUnsupported,
         "[onnx] '{}' has {} bytes; an ONNX message has at most 2 GB, larger models keep their "
         "tensors in external files",
         path.string(), bytes.size());
  }
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  if (!message.ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage()) {
    fail(ErrorCode::kCorrupt,
         "[onnx] '{}' is no {}: its bytes do not parse as one (truncated or damaged?)",
         path.string(), what);
  }
}

struct Entry {
  std::string location;
  uint64_t offset = 0;
  std::optional<uint64_t> length;
};

uint64_t number(const std::string& text, const std::string& key, const std::string& tensor,
                const fs::path& path) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail(ErrorCode::kCorrupt, "[onnx] '{}': tensor '{}': external data's {} '{}' is no number",
         path.string(), tensor, key, text);
  }
  return value;
}

// Whether a file is in the folder of the model or below it, once every link is followed. A link may
// also lead to the folder of what the model itself is a link to: caches of downloads are made so.
bool lies_beside(const fs::path& file, const fs::path& model) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(fs::absolute(file), error);
  if (error) return false;
  const auto holds = [&](const fs::path& folder) {
    return !folder.empty() &&
           std::mismatch(folder.begin(), folder.end(), real.begin(), real.end()).first ==
               folder.end();
  };
  const fs::path absolute = fs::absolute(model);
  return holds(fs::weakly_canonical(absolute.parent_path(), error)) ||
         holds(fs::weakly_canonical(absolute, error).parent_path());
}

}  // namespace

std::string data_type_name(int data_type) {
  if (data_type < 0 || data_type >= static_cast<int>(kTypeNames.size()))
    return std::to_string(data_type);
  return kTypeNames[data_type];
}

Model Model::read(const fs::path& path) {
  return parse(base::MappedFile::open(path)->bytes(), path);
}

Model Model::parse(std::span<const std::byte> bytes, fs::path path) {
  Model model;
  auto proto = std::make_shared<onnx::ModelProto>();
  onnx_file::parse(*proto, bytes, path, "ONNX model");
  if (!proto->has_graph())
    fail(ErrorCode::kCorrupt, "[onnx] '{}' is no ONNX model: it holds no graph", path.string());
  model.proto_ = std::move(proto);
  model.path_ = std::move(path);
  return model;
}

std::span<const std::byte> Model::external_bytes(const onnx::TensorProto& tensor,
                                                 std::shared_ptr<const void>* owner) const {
  Entry entry;
  for (const auto& pair : tensor.external_data()) {
    if (pair.key() == "location") entry.location = pair.value();
    if (pair.key() == "offset") entry.offset = number(pair.value(), "offset", tensor.name(), path_);
    if (pair.key() == "length") entry.length = number(pair.value(), "length", tensor.name(), path_);
  }
  // A model may name files beside it only: whoever opens it does not expect it to read others.
  const fs::path relative(entry.location);
  const bool outside = relative.empty() || relative.is_absolute() ||
                       std::any_of(relative.begin(), relative.end(),
                                   [](const fs::path& part) { return part == ".."; });
  const fs::path file_path = path_.parent_path() / relative;
  if (outside || (external_.count(entry.location) == 0 && !lies_beside(file_path, path_))) {
    fail(ErrorCode::kCorrupt,
         "[onnx] '{}': tensor '{}': external data '{}' lies outside the model's folder",
         path_.string(), tensor.name(), entry.location);
  }
  auto& file = external_[entry.location];
  if (!file) file = base::MappedFile::open(file_path);
  const auto bytes = file->bytes();
  const uint64_t length =
      entry.length.value_or(bytes.size() - std::min<uint64_t>(entry.offset, bytes.size()));
  if (entry.offset > bytes.size() || length > bytes.size() - entry.offset) {
    fail(ErrorCode::kCorrupt,
         "[onnx] '{}': tensor '{}': external data '{}' has {} bytes, the tensor takes {} at offset "
         "{}",
         path_.string(), tensor.name(), entry.location, bytes.size(), length, entry.offset);
  }
  *owner = file;
  return bytes.subspan(entry.offset, length);
}

io::TensorRecord Model::tensor(const onnx::TensorProto& tensor) const {
  const bool external = tensor.data_location() == onnx::TensorProto::EXTERNAL;
  std::shared_ptr<const void> owner = proto_;
  if (external) {
    const auto bytes = external_bytes(tensor, &owner);
    return record_of(tensor, bytes, owner, path_.string());
  }
  return record_of(tensor, std::nullopt, owner, path_.string());
}

io::TensorRecord read_tensor(const fs::path& path) {
  auto proto = std::make_shared<onnx::TensorProto>();
  parse(*proto, base::MappedFile::open(path)->bytes(), path, "ONNX tensor");
  if (proto->data_location() == onnx::TensorProto::EXTERNAL) {
    fail(ErrorCode::kUnsupported, "[onnx] '{}': a lone tensor with external data", path.string());
  }
  return record_of(*proto, std::nullopt, proto, path.string());
}

}  // namespace packlight::onnx_file

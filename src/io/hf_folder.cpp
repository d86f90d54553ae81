#include "io/hf_folder.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/fail.h"
#include "base/mapped_file.h"
#include "io/package_file.h"
#include "io/safetensors.h"

namespace packlight::io {
namespace {

namespace fs = std::filesystem;

// Without exceptions of the standard library: what cannot be looked at does not exist for us.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

fs::path existing(const fs::path& path) { return is_there(path) ? path : fs::path(); }

// Tensor names by shard. A shard is a file beside the index: a name with a folder in it could point
// anywhere.
std::map<std::string, std::set<std::string>> read_index(const fs::path& index) {
  const Json json = base::read_json_file(index);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object()) {
    fail(ErrorCode::kCorrupt, "[hf] '{}': 'weight_map' is missing", index.string());
  }
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || file.get<std::string>().empty() ||
        fs::path(file.get<std::string>()).filename() != file.get<std::string>()) {
      fail(ErrorCode::kCorrupt, "[hf] '{}': tensor '{}' is in {}, which is no file name",
           index.string(), name, file.dump());
    }
    if (!shards[file.get<std::string>()].insert(name).second) {
      fail(ErrorCode::kCorrupt, "[hf] '{}': tensor '{}' twice", index.string(), name);
    }
  }
  return shards;
}

void read_shard(const fs::path& shard, const std::set<std::string>& names,
                std::vector<TensorRecord>& tensors) {
  if (!is_there(shard)) fail(ErrorCode::kCorrupt, "[hf] shard '{}' is missing", shard.string());
  SafetensorsFile file = read_safetensors(shard);
  size_t found = 0;
  for (TensorRecord& record : file.tensors) {
    if (!names.contains(record.name)) continue;
    ++found;
    tensors.push_back(std::move(record));
  }
  if (found == names.size()) return;
  std::set<std::string_view> present;
  for (const TensorRecord& record : tensors) present.insert(record.name);
  const auto lacking =
      std::find_if(names.begin(), names.end(), [&](const auto& n) { return !present.contains(n); });
  fail(ErrorCode::kCorrupt, "[hf] shard '{}' lacks tensor '{}', which the index promises",
       shard.string(), *lacking);
}

std::vector<TensorRecord> read_tensors(const fs::path& folder) {
  const fs::path single = folder / "model.safetensors",
                 index = folder / "model.safetensors.index.json";
  if (is_there(single)) return read_safetensors(single).tensors;
  if (!is_there(index)) {
    const bool pickled =
        is_there(folder / "pytorch_model.bin") || is_there(folder / "pytorch_model.bin.index.json");
    fail(pickled ? ErrorCode::kUnsupported : ErrorCode::kNotFound,
         "[hf] '{}': neither model.safetensors nor model.safetensors.index.json{}", folder.string(),
         pickled ? "; pytorch_model.bin is pickled code and is not read" : "");
  }
  std::vector<TensorRecord> tensors;
  for (const auto& [file, names] : read_index(index)) read_shard(folder / file, names, tensors);
  return tensors;
}

// A safetensors file whose header mentions our metadata key.
bool looks_like_safetensors(std::span<const std::byte> bytes, bool* package) {
  uint64_t header = 0;
  if (bytes.size() < 10) return false;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header < 2 || header > bytes.size() - sizeof(header) || bytes[8] != std::byte{'{'})
    return false;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header);
  *package = text.find("\"packlight\"") != std::string_view::npos;
  return true;
}

// An ONNX ModelProto in the form every exporter writes: field 1 (ir_version, one byte) first, then
// another known field.
bool looks_like_onnx(std::span<const std::byte> bytes) {
  if (bytes.size() < 4 || bytes[0] != std::byte{0x08} || bytes[1] > std::byte{20}) return false;
  const auto tag = std::to_integer<uint8_t>(bytes[2]);
  return tag == 0x12 || tag == 0x1a || tag == 0x22 || tag == 0x28 || tag == 0x32 || tag == 0x3a ||
         tag == 0x42;
}

}  // namespace

const TensorRecord* HfFolder::find(std::string_view name) const {
  const auto it = std::find_if(tensors.begin(), tensors.end(),
                               [&](const TensorRecord& t) { return t.name == name; });
  return it == tensors.end() ? nullptr : &*it;
}

HfFolder read_hf_folder(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error))
    fail(ErrorCode::kNotFound, "[hf] '{}' is no folder", path.string());
  HfFolder folder;
  folder.path = path;
  folder.config = base::read_json_file(path / "config.json");
  if (is_there(path / "generation_config.json")) {
    folder.generation_config = base::read_json_file(path / "generation_config.json");
  }
  folder.tokenizer_json = existing(path / "tokenizer.json");
  folder.tokenizer_config = existing(path / "tokenizer_config.json");
  folder.tensors = read_tensors(path);
  return folder;
}

ModelKind detect_model_kind(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    if (is_there(path / "config.json")) return ModelKind::kHfFolder;
    fail(ErrorCode::kUnsupported,
         "[io] folder '{}' holds no config.json, so it is no Hugging Face model", path.string());
  }
  const auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  bool package = false;
  if (bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0) return ModelKind::kGguf;
  if (looks_like_safetensors(bytes, &package)) {
    if (package && probe_package_kind(bytes, path.string()) == PackageKind::kNetwork)
      return ModelKind::kNetworkPackage;
    if (package) return ModelKind::kPackage;
    fail(ErrorCode::kUnsupported,
         "[io] '{}' is a plain safetensors file: give the model folder with its config.json",
         path.string());
  }
  if (looks_like_onnx(bytes)) return ModelKind::kOnnx;
  fail(ErrorCode::kUnsupported,
       "[io] '{}' is no GGUF file, Hugging Face folder, package or ONNX file", path.string());
}

const char* model_kind_name(ModelKind kind) {
  switch (kind) {
    case ModelKind::kGguf:
      return "GGUF";
    case ModelKind::kHfFolder:
      return "Hugging Face folder";
    case ModelKind::kPackage:
      return "package";
    case ModelKind::kNetworkPackage:
      return "network package";
    case ModelKind::kOnnx:
      return "ONNX";
  }
  return "";
}

}  // namespace packlight::io

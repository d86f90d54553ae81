#include <set>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "io/safetensors.h"

namespace packlight::io {
namespace {

uint64_t chunk_bytes(const TensorToWrite& tensor) {
  uint64_t size = 0;
  for (const auto chunk : tensor.chunks) size += chunk.size();
  return size;
}

// Text as JSON; broken UTF-8 is the caller's mistake.
std::string quoted(const std::string& text) {
  try {
    return Json(text).dump();
  } catch (const Json::exception& e) {
    fail(ErrorCode::kInvalidArgument, "[safetensors] text is no UTF-8: {}", e.what());
  }
}

uint64_t size_of(const TensorToWrite& tensor, const std::string& path) {
  return tensor_bytes(tensor.dtype, tensor.shape, tensor.name, path);
}

void check_tensor(const TensorToWrite& tensor, uint64_t offset, bool produced, const std::string& path) {
  const codec::DTypeInfo& type = codec::info(tensor.dtype);
  if (type.block_elements != 1) {
    fail(ErrorCode::kInvalidArgument, "[safetensors] '{}' tensor '{}': the format has no dtype {}",
         path, tensor.name, type.name);
  }
  const uint64_t size = size_of(tensor, path);
  if (size != chunk_bytes(tensor) && !(produced && tensor.chunks.empty())) {
    fail(ErrorCode::kInvalidArgument,
         "[safetensors] '{}' tensor '{}': {} bytes given, {} and shape need {}", path, tensor.name,
         chunk_bytes(tensor), type.name, size);
  }
  if (offset % type.block_bytes != 0) {
    fail(ErrorCode::kInvalidArgument,
         "[safetensors] '{}' tensor '{}': byte {} is misaligned for {}", path, tensor.name, offset,
         type.name);
  }
}

std::string make_header(std::span<const TensorToWrite> tensors,
                        const std::map<std::string, std::string>& metadata, bool produced,
                        const std::string& path) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) header += quoted(key) + ":" + quoted(value) + ",";
    header.back() = '}';
    header += ',';
  }
  std::set<std::string_view> names;
  uint64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second) {
      fail(ErrorCode::kInvalidArgument, "[safetensors] '{}': tensor name '{}' is taken", path,
           tensor.name);
    }
    check_tensor(tensor, offset, produced, path);
    const uint64_t end = offset + size_of(tensor, path);
    header += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[", quoted(tensor.name),
                          codec::info(tensor.dtype).name);
    for (size_t i = 0; i < tensor.shape.size(); ++i)
      header += fmt::format("{}{}", i ? "," : "", tensor.shape[i]);
    header += fmt::format("],\"data_offsets\":[{},{}]}},", offset, end);
    offset = end;
  }
  if (header.back() == ',') header.pop_back();
  return header + "}";
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata, int alignment,
                       const std::function<std::vector<std::byte>(size_t index)>& produce) {
  if (alignment < 1) fail(ErrorCode::kInvalidArgument, "[safetensors] alignment {}", alignment);
  std::string header = make_header(tensors, metadata, produce != nullptr, path.string());
  while ((sizeof(uint64_t) + header.size()) % alignment != 0) header += ' ';
  const uint64_t header_size = header.size();
  base::AtomicFile file(path);
  file.write(std::as_bytes(std::span(&header_size, 1)));
  file.write(header);
  uint64_t given = 0;  // what is made on the way is its maker's to report
  for (const TensorToWrite& tensor : tensors) {
    for (const auto chunk : tensor.chunks) given += chunk.size();
  }
  base::Progress progress("Writing " + path.filename().string(), given);
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (const auto chunk : tensors[i].chunks) {
      file.write(chunk);
      base::release_pages(chunk);
      progress.advance(chunk.size());
    }
    const uint64_t size = size_of(tensors[i], path.string());
    if (!tensors[i].chunks.empty() || size == 0) continue;
    const std::vector<std::byte> made = produce(i);
    if (made.size() != size) {
      fail(ErrorCode::kInternal, "[safetensors] tensor '{}': {} bytes were made, {} are needed", tensors[i].name,
           made.size(), size);
    }
    file.write(std::span(made));
  }
  file.commit();
}

}  // namespace packlight::io

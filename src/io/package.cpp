#include "io/package.h"

#include <algorithm>
#include <bit>

#include "base/fail.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "codec/tile.h"
#include "io/package_json.h"

namespace packlight::io {
namespace {

using codec::DType;
using codec::EncodedTensor;

// Stored sizes are whole lines; the padding is not part of the tensor.
std::span<const std::byte> strip_padding(std::span<const std::byte> stored, uint64_t size,
                                         const std::string& name, const std::string& path) {
  if (stored.size() != padded_to_line(size)) {
    fail(ErrorCode::kCorrupt, "[package] '{}' tensor '{}': {} bytes, its format and shape need {}",
         path, name, stored.size(), padded_to_line(size));
  }
  if (reinterpret_cast<uintptr_t>(stored.data()) % kLineBytes != 0) {
    fail(ErrorCode::kCorrupt, "[package] '{}' tensor '{}': not aligned to {} bytes", path, name,
         kLineBytes);
  }
  return stored.first(size);
}

}  // namespace

Package Package::open(const std::filesystem::path& path) {
  auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse(bytes, std::move(file), path);
}

Package Package::parse(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                       std::filesystem::path path) {
  Package package;
  const std::string origin = path.string();
  package.path_ = std::move(path);
  package.size_bytes_ = bytes.size();
  package.owner_ = owner;
  package.file_ = parse_safetensors(bytes, std::move(owner), origin);
  const auto entry = package.file_.metadata.find(kPackageKey);
  if (entry == package.file_.metadata.end()) {
    fail(ErrorCode::kCorrupt, "[package] '{}' has no metadata entry '{}', so it is no package",
         origin, kPackageKey);
  }
  if (entry->second.size() >= kMaxMetadataBytes) {
    fail(ErrorCode::kCorrupt, "[package] '{}': {} bytes of metadata, the limit is {}", origin,
         entry->second.size(), kMaxMetadataBytes);
  }
  const Json metadata = base::parse_json(entry->second, origin);
  package.metadata_ = package_metadata_from_json(metadata, origin);
  package.metadata_checksum_ = metadata_checksum(metadata);
  for (size_t i = 0; i < package.file_.tensors.size(); ++i)
    package.index_[package.file_.tensors[i].name] = i;
  for (const TensorSpec& spec : decoder_tensors(package.config())) package.add_weight(spec);
  for (const auto& [name, format] : package.metadata_.formats) {
    if (!package.weights_.contains(name)) {
      fail(ErrorCode::kCorrupt,
           "[package] '{}': a format for '{}', which the model has no weight for", origin, name);
    }
  }
  return package;
}

void Package::add_weight(const TensorSpec& spec) {
  const std::string origin = path_.string();
  const TensorRecord& record = stored(spec.name);
  EncodedTensor tensor;
  tensor.rows = spec.rows;
  tensor.cols = spec.cols;
  tensor.owner = owner_;
  if (spec.is_vector) {
    if (record.dtype != DType::kF32 || record.elements() != spec.cols) {
      fail(ErrorCode::kCorrupt, "[package] '{}' tensor '{}': {} {} values, the model needs {} F32",
           origin, spec.name, record.elements(), codec::info(record.dtype).name, spec.cols);
    }
    tensor.data = record.bytes;
    tensor.owner = record.owner;
  } else {
    const auto format = metadata_.formats.find(spec.name);
    if (format == metadata_.formats.end() || format->second.dtype == DType::kF32) {
      fail(ErrorCode::kCorrupt, "[package] '{}': matrix '{}' has no packed format", origin,
           spec.name);
    }
    attach_tiles(spec, format->second, tensor);
  }
  weights_.emplace(spec.name, std::move(tensor));
}

void Package::attach_tiles(const TensorSpec& spec, const WeightFormat& format,
                           EncodedTensor& tensor) const {
  const std::string origin = path_.string();
  tensor.dtype = format.dtype;
  const bool grouped = format.dtype != DType::kTileF16;
  if (grouped) tensor.group_size = format.group_size == 0 ? spec.cols : format.group_size;
  codec::TileSizes sizes;
  try {
    sizes = codec::tile_sizes(format.dtype, spec.rows, spec.cols, tensor.group_size);
  } catch (const Error& e) {
    fail(ErrorCode::kCorrupt, "[package] '{}' tensor '{}': {}", origin, spec.name, e.what());
  }
  tensor.data = strip_padding(stored(spec.name).bytes, sizes.data_bytes, spec.name, origin);
  if (!grouped) return;
  const std::string scales = spec.name + kScalesSuffix, zeros = spec.name + kZerosSuffix;
  tensor.scales = strip_padding(stored(scales).bytes, sizes.scale_bytes, scales, origin);
  if (!format.symmetric)
    tensor.zeros = strip_padding(stored(zeros).bytes, sizes.zero_bytes, zeros, origin);
}

const TensorRecord& Package::stored(const std::string& name) const {
  const auto it = index_.find(name);
  if (it == index_.end()) {
    fail(ErrorCode::kCorrupt, "[package] '{}': tensor '{}' is missing", path_.string(), name);
  }
  return file_.tensors[it->second];
}

codec::EncodedTensor Package::tensor(std::string_view name) const {
  const auto it = weights_.find(name);
  if (it == weights_.end())
    fail(ErrorCode::kNotFound, "[package] '{}' has no weight '{}'", path_.string(), name);
  return it->second;
}

bool Package::contains(std::string_view name) const { return weights_.contains(name); }

const WeightFormat& Package::format(std::string_view name) const {
  static const WeightFormat kVector{DType::kF32, 0, true, false};
  const auto it = metadata_.formats.find(std::string(name));
  if (it != metadata_.formats.end()) return it->second;
  if (!contains(name))
    fail(ErrorCode::kNotFound, "[package] '{}' has no weight '{}'", path_.string(), name);
  return kVector;
}

std::span<const std::byte> Package::blob(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? std::span<const std::byte>() : file_.tensors[it->second].bytes;
}

std::shared_ptr<const void> Package::owner() const { return owner_; }

std::vector<std::string> Package::damaged_blocks() const {
  std::map<std::string, std::string> found = block_checksums(file_.tensors, config());
  found[kMetadataBlock] = metadata_checksum_;
  std::vector<std::string> damaged;
  for (const auto& [block, checksum] : found) {
    const auto kept = metadata_.checksums.find(block);
    if (kept == metadata_.checksums.end() || kept->second != checksum) damaged.push_back(block);
  }
  for (const auto& [block, checksum] : metadata_.checksums) {
    if (!found.contains(block)) damaged.push_back(block);
  }
  return damaged;
}

}  // namespace packlight::io

#include "io/package.h"

#include "base/fail.h"
#include "base/mapped_file.h"
#include "io/package_json.h"

namespace packlight::io {

using codec::DType;
using codec::EncodedTensor;

Package Package::open(const std::filesystem::path& path) {
  auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse(bytes, std::move(file), path);
}

Package Package::parse(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                       std::filesystem::path path) {
  Package package;
  package.file_ = PackageFile::parse(bytes, std::move(owner), std::move(path));
  const std::string& origin = package.file_.origin();
  package.metadata_ = package_metadata_from_json(package.file_.metadata(), origin);
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
  const std::string& origin = file_.origin();
  const TensorRecord& record = file_.stored(spec.name);
  EncodedTensor tensor;
  tensor.rows = spec.rows;
  tensor.cols = spec.cols;
  if (spec.is_vector) {
    if (record.dtype != DType::kF32 || record.elements() != spec.cols) {
      fail(ErrorCode::kCorrupt, "[package] '{}' tensor '{}': {} {} values, the model needs {} F32",
           origin, spec.name, record.elements(), codec::info(record.dtype).name, spec.cols);
    }
    tensor.data = record.bytes;
    tensor.owner = record.owner;
  } else {
    const auto it = metadata_.formats.find(spec.name);
    if (it == metadata_.formats.end() || it->second.dtype == DType::kF32) {
      fail(ErrorCode::kCorrupt, "[package] '{}': matrix '{}' has no packed format", origin,
           spec.name);
    }
    const WeightFormat& format = it->second;
    tensor.dtype = format.dtype;
    if (format.dtype != DType::kTileF16)
      tensor.group_size = format.group_size == 0 ? spec.cols : format.group_size;
    if (format.sparsity == codec::Sparsity::kNone) {
      tensor = file_.tiles(spec.name, std::move(tensor), format.symmetric);
    } else {
      sparse_.emplace(spec.name,
                      file_.sparse_tiles(spec.name, tensor, format.sparsity, format.symmetric));
    }
  }
  weights_.emplace(spec.name, std::move(tensor));
}

codec::EncodedTensor Package::tensor(std::string_view name) const {
  const auto it = weights_.find(name);
  if (it == weights_.end())
    fail(ErrorCode::kNotFound, "[package] '{}' has no weight '{}'", file_.origin(), name);
  const codec::SparseTiles* pruned = sparse(name);
  return pruned == nullptr ? it->second : codec::expand_tiles(*pruned, name);
}

const codec::SparseTiles* Package::sparse(std::string_view name) const {
  const auto it = sparse_.find(name);
  return it == sparse_.end() ? nullptr : &it->second;
}

uint64_t Package::stored_bytes(std::string_view name) const {
  const codec::SparseTiles* pruned = sparse(name);
  return pruned == nullptr ? tensor(name).size_bytes() : pruned->size_bytes();
}

bool Package::contains(std::string_view name) const { return weights_.contains(name); }

const WeightFormat& Package::format(std::string_view name) const {
  static const WeightFormat kVector{DType::kF32, 0, true, false};
  const auto it = metadata_.formats.find(std::string(name));
  if (it != metadata_.formats.end()) return it->second;
  if (!contains(name))
    fail(ErrorCode::kNotFound, "[package] '{}' has no weight '{}'", file_.origin(), name);
  return kVector;
}

std::span<const std::byte> Package::blob(std::string_view name) const {
  const TensorRecord* record = file_.find(name);
  return record == nullptr ? std::span<const std::byte>() : record->bytes;
}

std::vector<std::string> Package::damaged_blocks() const {
  return file_.damaged_blocks(decoder_blocks(config()), metadata_.checksums);
}

}  // namespace packlight::io

#include "io/package_file.h"

#include "base/fail.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "codec/tile.h"
#include "io/config_fields.h"

namespace packlight::io {
namespace {

constexpr int kFormatVersion = 1;

}  // namespace

PackageHeader package_header_from_json(const Json& metadata, std::string_view origin) {
  const ConfigFields fields(metadata, origin);
  PackageHeader header;
  const int64_t version = fields.integer("format_version");
  if (version < 1 || version > kFormatVersion) {
    fail(ErrorCode::kUnsupported, "[package] '{}': format version {}, this program reads 1 to {}",
         origin, version, kFormatVersion);
  }
  header.format_version = static_cast<int>(version);
  if (const Json* kind = fields.find("kind")) {
    if (*kind != "network") {
      fail(ErrorCode::kUnsupported, "[package] '{}': a package of kind {:.60}, which is not known",
           origin, kind->dump(-1, ' ', false, Json::error_handler_t::replace));
    }
    header.kind = PackageKind::kNetwork;
  }
  if (const Json* recipe = fields.find("recipe")) header.recipe = *recipe;
  const Json* checksums = fields.find("checksums");
  if (checksums == nullptr || !checksums->is_object())
    fail(ErrorCode::kCorrupt, "[package] '{}': metadata has no object 'checksums'", origin);
  for (const auto& [block, checksum] : checksums->items()) {
    if (!checksum.is_string()) {
      fail(ErrorCode::kCorrupt, "[package] '{}': the checksum of '{}' is no text", origin, block);
    }
    header.checksums[block] = checksum.get<std::string>();
  }
  return header;
}

std::map<std::string, std::string> block_checksums(std::span<const TensorRecord> tensors,
                                                   const BlockOf& block_of) {
  std::map<std::string, std::string>
      hashes;  // names and 8-byte hashes of a block, one after the other
  uint64_t total = 0;
  for (const TensorRecord& tensor : tensors) total += tensor.bytes.size();
  base::Progress progress("Checksums", total);
  for (const TensorRecord& tensor : tensors) {
    if (tensor.name.starts_with(kPaddingPrefix)) continue;
    progress.advance(tensor.bytes.size());
    const uint64_t hash = base::hash64(tensor.bytes);
    base::release_pages(tensor.bytes);
    hashes[block_of(tensor.name)]
        .append(tensor.name)
        .append(reinterpret_cast<const char*>(&hash), sizeof(hash));
  }
  for (auto& [block, text] : hashes)
    text = base::hex64(base::hash64(std::as_bytes(std::span(text))));
  return hashes;
}

std::string metadata_checksum(Json metadata) {
  metadata.erase("checksums");
  const std::string text = metadata.dump();
  return base::hex64(base::hash64(std::as_bytes(std::span(text))));
}

PackageKind probe_package_kind(std::span<const std::byte> bytes, const std::string& origin) {
  const SafetensorsFile file = parse_safetensors(bytes, nullptr, origin);
  try {
    const auto entry = file.metadata.find(kPackageKey);
    if (entry == file.metadata.end() || entry->second.size() >= kMaxMetadataBytes)
      return PackageKind::kDecoder;
    const Json metadata = base::parse_json(entry->second, "");
    const bool network = metadata.is_object() && metadata.value("kind", Json()) == "network";
    return network ? PackageKind::kNetwork : PackageKind::kDecoder;
  } catch (const Error&) {
    return PackageKind::kDecoder;
  }
}

PackageFile PackageFile::parse(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                               std::filesystem::path path) {
  PackageFile package;
  package.origin_ = path.string();
  package.path_ = std::move(path);
  package.size_bytes_ = bytes.size();
  package.owner_ = owner;
  const std::string& origin = package.origin_;
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
  package.metadata_ = base::parse_json(entry->second, origin);
  for (size_t i = 0; i < package.file_.tensors.size(); ++i)
    package.index_[package.file_.tensors[i].name] = i;
  return package;
}

const TensorRecord* PackageFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &file_.tensors[it->second];
}

const TensorRecord& PackageFile::stored(std::string_view name) const {
  const TensorRecord* record = find(name);
  if (record == nullptr)
    fail(ErrorCode::kCorrupt, "[package] '{}': tensor '{}' is missing", origin_, name);
  return *record;
}

std::span<const std::byte> PackageFile::lines(const std::string& name, uint64_t size) const {
  const std::span<const std::byte> bytes = stored(name).bytes;
  if (bytes.size() != padded_to_line(size)) {
    fail(ErrorCode::kCorrupt, "[package] '{}' tensor '{}': {} bytes, its format and shape need {}",
         origin_, name, bytes.size(), padded_to_line(size));
  }
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kLineBytes != 0) {
    fail(ErrorCode::kCorrupt, "[package] '{}' tensor '{}': not aligned to {} bytes", origin_, name,
         kLineBytes);
  }
  return bytes.first(size);
}

codec::EncodedTensor PackageFile::tiles(const std::string& name, codec::EncodedTensor shape,
                                        bool symmetric) const {
  shape.data = lines(name, tile_sizes_of(name, shape).data_bytes);
  return with_scales(name, std::move(shape), symmetric);
}

codec::SparseTiles PackageFile::sparse_tiles(const std::string& name,
                                             const codec::EncodedTensor& shape,
                                             codec::Sparsity form, bool symmetric) const {
  const codec::EncodedTensor scaled = with_scales(name, shape, symmetric);
  codec::SparseTiles tiles{form, shape.rows,    shape.cols,   shape.group_size,
                           {},   scaled.scales, scaled.zeros, owner_};
  const std::span<const std::byte> bytes = stored(name).bytes;
  tiles.data = lines(
      name, codec::sparse_data_bytes(form, shape.rows, shape.cols, bytes, origin_ + "' '" + name));
  codec::check_sparse(tiles, origin_ + "' '" + name);
  return tiles;
}

codec::TileSizes PackageFile::tile_sizes_of(const std::string& name,
                                            const codec::EncodedTensor& shape) const {
  try {
    return codec::tile_sizes(shape.dtype, shape.rows, shape.cols, shape.group_size);
  } catch (const Error& e) {
    fail(ErrorCode::kCorrupt, "[package] '{}' tensor '{}': {}", origin_, name, e.what());
  }
}

codec::EncodedTensor PackageFile::with_scales(const std::string& name, codec::EncodedTensor shape,
                                              bool symmetric) const {
  const codec::TileSizes sizes = tile_sizes_of(name, shape);
  shape.owner = owner_;
  if (shape.dtype == codec::DType::kTileF16) return shape;
  shape.scales = lines(name + kScalesSuffix, sizes.scale_bytes);
  if (!symmetric) shape.zeros = lines(name + kZerosSuffix, sizes.zero_bytes);
  return shape;
}

std::vector<std::string> PackageFile::damaged_blocks(
    const BlockOf& block_of, const std::map<std::string, std::string>& kept) const {
  std::map<std::string, std::string> found = block_checksums(file_.tensors, block_of);
  found[kMetadataBlock] = metadata_checksum(metadata_);
  std::vector<std::string> damaged;
  for (const auto& [block, checksum] : found) {
    const auto it = kept.find(block);
    if (it == kept.end() || it->second != checksum) damaged.push_back(block);
  }
  for (const auto& [block, checksum] : kept) {
    if (!found.contains(block)) damaged.push_back(block);
  }
  return damaged;
}

}  // namespace packlight::io

#include "base/fail.h"
#include "io/package_file.h"

namespace packlight::io {

void PackageLayout::add(std::string name, codec::DType dtype, std::vector<int64_t> shape,
                        std::span<const std::byte> bytes) {
  align();
  offset_ += bytes.size();
  records_.push_back({std::move(name), dtype, std::move(shape), bytes, nullptr});
}

void PackageLayout::add_blob(std::string name, std::span<const std::byte> bytes) {
  add(std::move(name), codec::DType::kU8, {static_cast<int64_t>(bytes.size())}, bytes);
}

void PackageLayout::add_tiles(const std::string& name, const codec::EncodedTensor& tiles) {
  add_tile_parts(name, tiles.data, tiles.scales, tiles.zeros);
}

void PackageLayout::add_tiles(const std::string& name, const codec::SparseTiles& tiles) {
  add_tile_parts(name, tiles.data, tiles.scales, tiles.zeros);
}

void PackageLayout::add_tile_parts(const std::string& name, std::span<const std::byte> data,
                                   std::span<const std::byte> scales,
                                   std::span<const std::byte> zeros) {
  add_lines(name, data);
  if (!scales.empty()) add_lines(name + kScalesSuffix, scales);
  if (!zeros.empty()) add_lines(name + kZerosSuffix, zeros);
}

void PackageLayout::add_lines(std::string name, std::span<const std::byte> bytes) {
  const uint64_t size = padded_to_line(bytes.size());
  if (size != bytes.size()) {
    buffers_.emplace_back(bytes.begin(), bytes.end()).resize(size);
    bytes = buffers_.back();
  }
  add_blob(std::move(name), bytes);
}

// The format has no holes, so a tensor of zeros fills the line that an odd size left.
void PackageLayout::align() {
  const uint64_t gap = padded_to_line(offset_) - offset_;
  if (gap == 0) return;
  buffers_.emplace_back(gap);
  records_.push_back({fmt::format("{}{}", kPaddingPrefix, offset_),
                      codec::DType::kU8,
                      {static_cast<int64_t>(gap)},
                      buffers_.back(),
                      nullptr});
  offset_ += gap;
}

void write_package_file(const std::filesystem::path& path, const PackageLayout& layout,
                        const BlockOf& block_of, Json metadata) {
  std::map<std::string, std::string> checksums = block_checksums(layout.records(), block_of);
  std::string json;
  try {
    checksums[kMetadataBlock] = metadata_checksum(metadata);
    metadata["checksums"] = checksums;
    json = metadata.dump();
  } catch (const Json::exception& e) {
    fail(ErrorCode::kInvalidArgument, "[package] '{}': metadata is no UTF-8 JSON: {}",
         path.string(), e.what());
  }
  if (json.size() >= kMaxMetadataBytes) {
    fail(ErrorCode::kUnsupported, "[package] '{}': {} bytes of metadata, the limit is {}",
         path.string(), json.size(), kMaxMetadataBytes);
  }
  std::vector<TensorToWrite> writes;
  for (const TensorRecord& record : layout.records())
    writes.push_back({record.name, record.dtype, record.shape, {record.bytes}});
  write_safetensors(path, writes, {{kPackageKey, json}}, kLineBytes);
}

}  // namespace packlight::io

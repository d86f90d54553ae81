#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "codec/encoded_tensor.h"
#include "codec/sparse_tile.h"
#include "codec/tile.h"
#include "io/safetensors.h"

namespace packlight::io {

// What packages of every kind have in common: a safetensors file of whole 64-byte lines, one JSON
// text of metadata, checksums by block. docs/formats/package.md draws it.

inline constexpr uint64_t kLineBytes = 64;  // every tensor starts at a multiple of a cache line
inline constexpr size_t kMaxMetadataBytes = 65536;
inline constexpr const char* kPackageKey = "packlight";
inline constexpr const char* kScalesSuffix = ".scales";
inline constexpr const char* kZerosSuffix = ".zeros";
inline constexpr std::string_view kPaddingPrefix =
    "padding.";  // tensors that only align their successor
inline constexpr const char* kMetadataBlock = "metadata";

inline uint64_t padded_to_line(uint64_t size) {
  return (size + kLineBytes - 1) / kLineBytes * kLineBytes;
}

enum class PackageKind { kDecoder, kNetwork };

// What the metadata of any package says.
struct PackageHeader {
  int format_version = 1;
  PackageKind kind = PackageKind::kDecoder;      // "kind": "network"; absent for a decoder
  Json recipe;                                   // null: nothing was done
  std::map<std::string, std::string> checksums;  // by block
};
// Errors: Corrupt; Unsupported for a newer format_version or a kind that is not known.
PackageHeader package_header_from_json(const Json& metadata, std::string_view origin);

// The block that a stored tensor is checked with, by its name.
using BlockOf = std::function<std::string(const std::string& tensor)>;

// Checksum of each block: hash64 over name and 8-byte hash64 of each of its stored tensors, in file
// order. Padding belongs to none.
std::map<std::string, std::string> block_checksums(std::span<const TensorRecord> tensors,
                                                   const BlockOf& block_of);

// Checksum of the metadata: hash64 of its compact JSON text without "checksums".
std::string metadata_checksum(Json metadata);

// Which kind of package these bytes are, from their metadata alone; a decoder when that is none or
// broken (whoever opens them says what is wrong). Errors: those of parse_safetensors(), a file that
// was cut short among them.
PackageKind probe_package_kind(std::span<const std::byte> bytes, const std::string& origin);

// A mapped package before anyone knows what its tensors mean. Copying copies views.
class PackageFile {
 public:
  PackageFile() = default;
  // `bytes` must start at a multiple of 64, and `owner` keep them alive. Errors: as
  // parse_safetensors(); Corrupt without metadata, or with too much of it.
  static PackageFile parse(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                           std::filesystem::path path);

  const Json& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }
  const std::string& origin() const { return origin_; }  // path(), for messages
  uint64_t size_bytes() const { return size_bytes_; }
  const std::shared_ptr<const void>& owner() const { return owner_; }
  std::span<const TensorRecord> tensors() const { return file_.tensors; }  // in file order

  // nullptr when there is none of that name.
  const TensorRecord* find(std::string_view name) const;
  // Errors: Corrupt when it is missing.
  const TensorRecord& stored(std::string_view name) const;
  // The first `size` bytes of a tensor whose size is that in whole lines. Errors: Corrupt for a
  // missing tensor, another size, bytes off their line.
  std::span<const std::byte> lines(const std::string& name, uint64_t size) const;
  // A matrix of tiles: data, scales and zero points are set to what NAME, NAME.scales and
  // NAME.zeros hold, as `shape` (dtype, rows, cols, group_size) and `symmetric` ask for. Errors:
  // Corrupt naming the tensor and the rule.
  codec::EncodedTensor tiles(const std::string& name, codec::EncodedTensor shape,
                             bool symmetric) const;
  // The same for an INT4 matrix whose NAME holds its codes in `form`. Errors: Corrupt also for what
  // codec::check_sparse() refuses.
  codec::SparseTiles sparse_tiles(const std::string& name, const codec::EncodedTensor& shape,
                                  codec::Sparsity form, bool symmetric) const;

  // Recomputes every checksum and returns the names of the blocks that differ from `kept` (empty:
  // sound).
  std::vector<std::string> damaged_blocks(const BlockOf& block_of,
                                          const std::map<std::string, std::string>& kept) const;

 private:
  codec::TileSizes tile_sizes_of(const std::string& name, const codec::EncodedTensor& shape) const;
  codec::EncodedTensor with_scales(const std::string& name, codec::EncodedTensor shape,
                                   bool symmetric) const;

  std::filesystem::path path_;
  std::string origin_;
  std::shared_ptr<const void> owner_;
  uint64_t size_bytes_ = 0;
  SafetensorsFile file_;
  std::map<std::string, size_t, std::less<>> index_;  // of every stored tensor
  Json metadata_;
};

// The tensors of a package to be written, in file order. Copies only what needs padding; spans must
// stay alive. Move-only.
class PackageLayout {
 public:
  PackageLayout() = default;
  PackageLayout(PackageLayout&&) = default;

  void add(std::string name, codec::DType dtype, std::vector<int64_t> shape,
           std::span<const std::byte> bytes);
  void add_blob(std::string name, std::span<const std::byte> bytes);
  // A matrix of tiles with its scales and zero points, each padded to whole lines with zeros.
  void add_tiles(const std::string& name, const codec::EncodedTensor& tiles);
  void add_tiles(const std::string& name, const codec::SparseTiles& tiles);

  const std::vector<TensorRecord>& records() const { return records_; }

 private:
  void add_tile_parts(const std::string& name, std::span<const std::byte> data,
                      std::span<const std::byte> scales, std::span<const std::byte> zeros);
  void add_lines(std::string name, std::span<const std::byte> bytes);
  void align();

  std::vector<TensorRecord> records_;
  std::deque<std::vector<std::byte>> buffers_;
  uint64_t offset_ = 0;
};

// Writes atomically; sets metadata["checksums"]. Errors: InvalidArgument for metadata that is no
// UTF-8; Unsupported for too much of it; Io.
void write_package_file(const std::filesystem::path& path, const PackageLayout& layout,
                        const BlockOf& block_of, Json metadata);

}  // namespace packlight::io

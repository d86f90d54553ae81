#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "codec/encoded_tensor.h"
#include "codec/sparse_tile.h"
#include "io/decoder_config.h"
#include "io/package_file.h"

namespace packlight::io {

// How one weight matrix is stored and multiplied.
struct WeightFormat {
  codec::DType dtype =
      codec::DType::kTileInt4;  // kTileInt4, kTileInt8, kTileF16, or kF32 (vectors)
  int64_t group_size = 32;      // 0: whole rows; unused for F16 and F32
  bool symmetric = true;
  bool int8_activations =
      false;  // inputs go to symmetric INT8 as they come, one scale per token and 32 columns
  codec::Sparsity sparsity = codec::Sparsity::kNone;  // kTileInt4 only: how its codes are stored

  bool operator==(const WeightFormat&) const = default;
};
// "w4a8:g32", "int4:g64:asym:bitmask", "int4:row:2of4", "int8:row", "f16", "f32" and back (Corrupt
// on anything else).
std::string to_string(const WeightFormat& format);
WeightFormat weight_format_from_string(std::string_view text, std::string_view origin);

struct TensorSpec {
  std::string name;    // "model.layers.0.self_attn.q_proj.weight"
  std::string block;   // "embed", "model.layers.0", "head"
  int64_t rows, cols;  // vectors: rows = 1
  bool is_vector;
};
// Every weight matrix and vector a decoder of this config has, with its shape, in the order they
// are used. The list that importer, writers and readers share.
std::vector<TensorSpec> decoder_tensors(const DecoderConfig& config);

// What GGUF calls a tensor of decoder_tensors(): "blk.0.attn_q.weight". Errors: InvalidArgument for
// another name.
std::string gguf_tensor_name(std::string_view name);

// The one JSON entry ("packlight") of a language model package's safetensors metadata; under 64 kB.
struct PackageMetadata {
  int format_version = 1;
  DecoderConfig config;
  // Format of each weight by tensor name; stored as the commonest one plus exceptions.
  std::map<std::string, WeightFormat> formats;
  Json recipe;  // what quantize was asked for; verify --against applies it again
  std::map<std::string, std::string> checksums;  // kept compact: one XXH3 of each block's tensors,
                                                 // by block name, and of the metadata
};

// A mapped package of a language model. Tensors carry Hugging Face names; a packed weight NAME is
// stored as the U8 tensors NAME, NAME.scales and (asymmetric) NAME.zeros, each padded to whole
// 64-byte lines; vectors are F32. Layout: docs/formats/package.md.
class Package {
 public:
  // Reads and checks the header, not the checksums. Errors: as read_safetensors; Corrupt when a
  // tensor that the config needs is missing or has another size; Unsupported for a newer
  // format_version, or a package of a network.
  static Package open(const std::filesystem::path& path);
  // The same over bytes that `owner` keeps alive; they must start at a multiple of 64.
  static Package parse(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                       std::filesystem::path path);

  const PackageMetadata& metadata() const { return metadata_; }
  const DecoderConfig& config() const { return metadata_.config; }
  // Weight or vector by name; what is stored sparse is expanded to dense tiles first, in a buffer
  // that the result owns. Errors: NotFound.
  codec::EncodedTensor tensor(std::string_view name) const;
  // The same as it is stored, if that is sparse; else nullptr. Lives as long as the package.
  const codec::SparseTiles* sparse(std::string_view name) const;
  // Bytes of the weight or vector with scales and zero points, without padding. Errors: NotFound.
  uint64_t stored_bytes(std::string_view name) const;
  bool contains(std::string_view name) const;
  const WeightFormat& format(std::string_view name) const;
  // Raw bytes of a tensor that is no weight ("tokenizer", "calibration_tokens"); empty when absent.
  std::span<const std::byte> blob(std::string_view name) const;
  std::shared_ptr<const void> owner() const { return file_.owner(); }
  uint64_t size_bytes() const { return file_.size_bytes(); }
  const std::filesystem::path& path() const { return file_.path(); }
  // Recomputes every checksum and returns the names of blocks that differ (empty: sound);
  // "metadata" stands for everything in the metadata but the checksums themselves.
  std::vector<std::string> damaged_blocks() const;

 private:
  void add_weight(const TensorSpec& spec);

  PackageFile file_;
  // Padding stripped. Of a sparse one `weights_` has the shape.
  std::map<std::string, codec::EncodedTensor, std::less<>> weights_;
  std::map<std::string, codec::SparseTiles, std::less<>> sparse_;
  PackageMetadata metadata_;
};

// Tensors to put in a package; spans must stay alive during the call.
struct PackageTensor {
  std::string name;
  codec::EncodedTensor weight;  // tiles, or dense F32 vectors
  codec::SparseTiles sparse =
      {};  // stored instead of `weight`, its shape, when its form is not kNone
};
// Writes atomically; fills metadata.checksums. `blobs` are stored as U8 tensors.
void write_package(const std::filesystem::path& path, PackageMetadata metadata,
                   std::span<const PackageTensor> tensors,
                   const std::map<std::string, std::span<const std::byte>>& blobs);

}  // namespace packlight::io

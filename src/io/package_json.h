#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "io/package.h"

namespace packlight::io {

// What package reader and writer share; docs/formats/package.md draws it.

inline constexpr uint64_t kLineBytes = 64;  // every tensor starts at a multiple of a cache line
inline constexpr size_t kMaxMetadataBytes = 65536;
inline constexpr const char* kPackageKey = "packlight";
inline constexpr const char* kScalesSuffix = ".scales";
inline constexpr const char* kZerosSuffix = ".zeros";
inline constexpr std::string_view kPaddingPrefix =
    "padding.";  // tensors that only align their successor

inline uint64_t padded_to_line(uint64_t size) {
  return (size + kLineBytes - 1) / kLineBytes * kLineBytes;
}

Json package_metadata_to_json(const PackageMetadata& metadata);
// Errors: Corrupt, Unsupported (newer format_version), naming `origin`.
PackageMetadata package_metadata_from_json(const Json& json, std::string_view origin);

inline constexpr const char* kMetadataBlock = "metadata";

// Checksum of the metadata: hash64 of its compact JSON text without "checksums".
std::string metadata_checksum(Json metadata);

// Checksum of each block: hash64 over name and 8-byte hash64 of each of its stored tensors, in file order. The
// block of a weight is its TensorSpec's, of a blob its own name; padding tensors belong to none.
std::map<std::string, std::string> block_checksums(std::span<const TensorRecord> tensors,
                                                   const DecoderConfig& config);

}  // namespace packlight::io

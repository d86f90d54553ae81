#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/network.h"
#include "io/package_file.h"

namespace packlight::io {

// The metadata of a network's package; under 64 kB.
struct NetworkMetadata {
  int format_version = 1;
  Json recipe;      // what was done to the network; null: nothing
  Json preprocess;  // how pictures become its input (data::preprocess_from_json); null: not known
  std::map<std::string, std::string> checksums;  // by block
};

// A mapped package of a network: its JSON in the U8 tensor "network", and beside it a tensor for
// each constant and tensor attribute; packed ones as in a language model's package. Layout:
// docs/formats/package.md.
class NetworkPackage {
 public:
  // Reads and checks everything but the checksums. Errors: as read_safetensors(); Corrupt naming
  // the file, the node or tensor and the rule; Unsupported for a newer format_version, or a package
  // of a language model.
  static NetworkPackage open(const std::filesystem::path& path);
  // The same over bytes that `owner` keeps alive; they must start at a multiple of 64.
  static NetworkPackage parse(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                              std::filesystem::path path);

  const NetworkMetadata& metadata() const { return metadata_; }
  // Its constants are views of the mapped bytes, which they keep alive.
  const std::shared_ptr<const Network>& network() const { return network_; }
  uint64_t size_bytes() const { return file_.size_bytes(); }
  const std::filesystem::path& path() const { return file_.path(); }
  // Recomputes every checksum and returns what differs (empty: sound): "metadata", "network", or
  // the tensors of a block, from its first to its last.
  std::vector<std::string> damaged_blocks() const;

 private:
  PackageFile file_;
  NetworkMetadata metadata_;
  std::shared_ptr<const Network> network_;
};

// Writes atomically; fills metadata.checksums. Errors: InvalidArgument for a name, recipe or
// preprocessing that is no UTF-8; Unsupported for 64 kB of metadata or more; Io.
void write_network_package(const std::filesystem::path& path, const Network& network,
                           const NetworkMetadata& metadata);

}  // namespace packlight::io

#include "io/network_package.h"

#include <set>

#include "base/fail.h"
#include "base/mapped_file.h"
#include "io/network_json.h"

namespace packlight::io {
namespace {

// Tensors are checked in at most so many blocks, so that the metadata stays small.
constexpr size_t kMostTensorBlocks = 64;
constexpr std::string_view kTensorBlock = "tensors.";

struct Block {
  std::string name;
  std::string first, last;  // tensors
};

// "network", and runs of tensors in file order, as equal in number as can be.
std::vector<Block> network_blocks(std::span<const TensorRecord> tensors) {
  std::vector<const std::string*> names;
  for (const TensorRecord& tensor : tensors) {
    if (tensor.name != kNetworkBlob && !tensor.name.starts_with(kPaddingPrefix))
      names.push_back(&tensor.name);
  }
  std::vector<Block> blocks = {{kNetworkBlob, kNetworkBlob, kNetworkBlob}};
  const size_t count = std::min(names.size(), kMostTensorBlocks);
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = names.size() * i / count, end = names.size() * (i + 1) / count;
    blocks.push_back({fmt::format("{}{}", kTensorBlock, i), *names[begin], *names[end - 1]});
  }
  return blocks;
}

BlockOf block_by_name(std::span<const TensorRecord> tensors) {
  std::map<std::string, std::string> of;
  const std::vector<Block> blocks = network_blocks(tensors);
  size_t block = 0;
  for (const TensorRecord& tensor : tensors) {
    if (tensor.name.starts_with(kPaddingPrefix)) continue;
    if (tensor.name == kNetworkBlob) {
      of[tensor.name] = kNetworkBlob;
      continue;
    }
    if (block + 1 < blocks.size() && blocks[block + 1].first == tensor.name) ++block;
    of[tensor.name] = blocks[block].name;
  }
  return [of = std::move(of)](const std::string& name) { return of.at(name); };
}

NetworkMetadata metadata_of(const PackageFile& file) {
  PackageHeader header = package_header_from_json(file.metadata(), file.origin());
  if (header.kind != PackageKind::kNetwork) {
    fail(ErrorCode::kUnsupported, "[package] '{}' holds a language model, not a network",
         file.origin());
  }
  NetworkMetadata metadata;
  metadata.format_version = header.format_version;
  metadata.recipe = std::move(header.recipe);
  metadata.checksums = std::move(header.checksums);
  const auto preprocess = file.metadata().find("preprocess");
  if (preprocess == file.metadata().end() || preprocess->is_null()) return metadata;
  if (!preprocess->is_object())
    fail(ErrorCode::kCorrupt, "[package] '{}': 'preprocess' is no object", file.origin());
  metadata.preprocess = *preprocess;
  return metadata;
}

Json metadata_to_json(const NetworkMetadata& metadata) {
  Json json = {{"format_version", metadata.format_version},
               {"kind", "network"},
               {"recipe", metadata.recipe}};
  if (!metadata.preprocess.is_null()) json["preprocess"] = metadata.preprocess;
  return json;
}

NetworkConstant dense_constant(const PackageFile& file, const NetworkTensorSpec& spec) {
  NetworkConstant constant;
  constant.record = file.stored(spec.name);
  const auto address = reinterpret_cast<uintptr_t>(constant.record.bytes.data());
  if (!constant.record.bytes.empty() && address % kLineBytes != 0) {
    fail(ErrorCode::kCorrupt, "[package] '{}' tensor '{}': not aligned to {} bytes", file.origin(),
         spec.name, kLineBytes);
  }
  return constant;
}

NetworkConstant packed_constant(const PackageFile& file, const NetworkTensorSpec& spec) {
  NetworkConstant constant;
  constant.record = {spec.name, spec.dtype, spec.shape, {}, file.owner()};
  constant.packed = file.tiles(spec.name, *spec.packed, spec.symmetric);
  return constant;
}

// A tensor that the network does not mention would be neither run nor shown.
void check_all_used(const PackageFile& file, const std::set<std::string, std::less<>>& used) {
  for (const TensorRecord& tensor : file.tensors()) {
    if (tensor.name == kNetworkBlob || tensor.name.starts_with(kPaddingPrefix) ||
        used.contains(tensor.name))
      continue;
    fail(ErrorCode::kCorrupt, "[package] '{}': the network has no use for tensor '{}'",
         file.origin(), tensor.name);
  }
}

std::shared_ptr<const Network> read_network(const PackageFile& file) {
  const std::span<const std::byte> blob = file.stored(kNetworkBlob).bytes;
  const std::string_view text(reinterpret_cast<const char*>(blob.data()), blob.size());
  std::set<std::string, std::less<>> used;
  const auto tensor = [&](const NetworkTensorSpec& spec) {
    used.insert(spec.name);
    if (!spec.packed) return dense_constant(file, spec);
    NetworkConstant constant = packed_constant(file, spec);
    if (!constant.packed.scales.empty()) used.insert(spec.name + kScalesSuffix);
    if (!constant.packed.zeros.empty()) used.insert(spec.name + kZerosSuffix);
    return constant;
  };
  auto network = std::make_shared<const Network>(
      network_from_json(base::parse_json(text, file.origin()), tensor, file.origin()));
  check_all_used(file, used);
  return network;
}

}  // namespace

NetworkPackage NetworkPackage::open(const std::filesystem::path& path) {
  auto file = base::MappedFile::open(path);
  const auto bytes = file->bytes();
  return parse(bytes, std::move(file), path);
}

NetworkPackage NetworkPackage::parse(std::span<const std::byte> bytes,
                                     std::shared_ptr<const void> owner,
                                     std::filesystem::path path) {
  NetworkPackage package;
  package.file_ = PackageFile::parse(bytes, std::move(owner), std::move(path));
  package.metadata_ = metadata_of(package.file_);
  package.network_ = read_network(package.file_);
  return package;
}

std::vector<std::string> NetworkPackage::damaged_blocks() const {
  const std::vector<Block> blocks = network_blocks(file_.tensors());
  std::vector<std::string> damaged =
      file_.damaged_blocks(block_by_name(file_.tensors()), metadata_.checksums);
  for (std::string& name : damaged) {
    for (const Block& block : blocks) {
      if (block.name != name) continue;
      name = block.first == block.last ? fmt::format("'{}'", block.first)
                                       : fmt::format("'{}' to '{}'", block.first, block.last);
      break;
    }
  }
  return damaged;
}

void write_network_package(const std::filesystem::path& path, const Network& network,
                           const NetworkMetadata& metadata) {
  const std::string text = network_to_json(network).dump();
  PackageLayout layout;
  layout.add_blob(kNetworkBlob, std::as_bytes(std::span(text)));
  for (const NetworkTensor& tensor : network_tensors(network)) {
    if (tensor.constant != nullptr && tensor.constant->is_packed()) {
      layout.add_tiles(tensor.name, tensor.constant->packed);
      continue;
    }
    const TensorRecord& record =
        tensor.constant != nullptr ? tensor.constant->record : *tensor.attribute;
    layout.add(tensor.name, record.dtype, record.shape, record.bytes);
  }
  write_package_file(path, layout, block_by_name(layout.records()), metadata_to_json(metadata));
}

}  // namespace packlight::io

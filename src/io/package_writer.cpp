#include <deque>

#include "base/fail.h"
#include "codec/tile.h"
#include "io/package_json.h"

namespace packlight::io {
namespace {

using codec::DType;

// The stored tensors in file order; copies only what needs padding.
class Layout {
 public:
  void add(std::string name, DType dtype, int64_t elements, std::span<const std::byte> bytes) {
    align();
    offset_ += bytes.size();
    records_.push_back({std::move(name), dtype, {elements}, bytes, nullptr});
  }

  // Padded to whole lines with zeros.
  void add_lines(std::string name, std::span<const std::byte> bytes) {
    const uint64_t size = padded_to_line(bytes.size());
    if (size != bytes.size()) {
      buffers_.emplace_back(bytes.begin(), bytes.end()).resize(size);
      bytes = buffers_.back();
    }
    add(std::move(name), DType::kU8, static_cast<int64_t>(size), bytes);
  }

  const std::vector<TensorRecord>& records() const { return records_; }

 private:
  // The format has no holes, so a tensor of zeros fills the line that an odd size left.
  void align() {
    const uint64_t gap = padded_to_line(offset_) - offset_;
    if (gap == 0) return;
    buffers_.emplace_back(gap);
    records_.push_back({fmt::format("{}{}", kPaddingPrefix, offset_),
                        DType::kU8,
                        {static_cast<int64_t>(gap)},
                        buffers_.back(),
                        nullptr});
    offset_ += gap;
  }

  std::vector<TensorRecord> records_;
  std::deque<std::vector<std::byte>> buffers_;
  uint64_t offset_ = 0;
};

void check_weight(const TensorSpec& spec, const PackageTensor& given,
                  const PackageMetadata& metadata) {
  const codec::EncodedTensor& w = given.weight;
  if (given.name != spec.name || w.rows != spec.rows || w.cols != spec.cols) {
    fail(ErrorCode::kInvalidArgument,
         "[package] tensor '{}' [{}, {}] given where '{}' [{}, {}] belongs", given.name, w.rows,
         w.cols, spec.name, spec.rows, spec.cols);
  }
  codec::check_sizes(w, given.name);
  if (spec.is_vector) {
    if (w.dtype != DType::kF32) {
      fail(ErrorCode::kInvalidArgument, "[package] vector '{}' is {}, not F32", spec.name,
           codec::info(w.dtype).name);
    }
    return;
  }
  const auto format = metadata.formats.find(spec.name);
  if (!codec::is_tile(w.dtype) || format == metadata.formats.end()) {
    fail(ErrorCode::kInvalidArgument,
         "[package] matrix '{}' is {} and {} format: tiles and a format are needed", spec.name,
         codec::info(w.dtype).name, format == metadata.formats.end() ? "has no" : "has a");
  }
  const WeightFormat& f = format->second;
  const int64_t group = f.group_size == 0 ? w.cols : f.group_size;
  const bool grouped = w.dtype != DType::kTileF16;
  if (f.dtype != w.dtype || (grouped && (group != w.group_size || f.symmetric != w.symmetric()))) {
    fail(ErrorCode::kInvalidArgument,
         "[package] matrix '{}': {} in groups of {} does not match its format {}", spec.name,
         codec::info(w.dtype).name, w.group_size, to_string(f));
  }
}

void add_weight(Layout& layout, const PackageTensor& tensor) {
  const codec::EncodedTensor& w = tensor.weight;
  if (w.dtype == DType::kF32) return layout.add(tensor.name, DType::kF32, w.rows * w.cols, w.data);
  layout.add_lines(tensor.name, w.data);
  if (!w.scales.empty()) layout.add_lines(tensor.name + kScalesSuffix, w.scales);
  if (!w.zeros.empty()) layout.add_lines(tensor.name + kZerosSuffix, w.zeros);
}

Layout lay_out(const PackageMetadata& metadata, std::span<const PackageTensor> tensors,
               const std::map<std::string, std::span<const std::byte>>& blobs) {
  const std::vector<TensorSpec> specs = decoder_tensors(metadata.config);
  if (tensors.size() != specs.size()) {
    fail(ErrorCode::kInvalidArgument, "[package] {} tensors given, the model has {}",
         tensors.size(), specs.size());
  }
  std::map<std::string_view, const PackageTensor*> given;
  for (const PackageTensor& tensor : tensors) given[tensor.name] = &tensor;
  Layout layout;
  for (const TensorSpec& spec : specs) {
    const auto it = given.find(spec.name);
    if (it == given.end())
      fail(ErrorCode::kInvalidArgument, "[package] tensor '{}' is not given", spec.name);
    check_weight(spec, *it->second, metadata);
    add_weight(layout, *it->second);
  }
  for (const auto& [name, bytes] : blobs)
    layout.add(name, DType::kU8, static_cast<int64_t>(bytes.size()), bytes);
  return layout;
}

}  // namespace

void write_package(const std::filesystem::path& path, PackageMetadata metadata,
                   std::span<const PackageTensor> tensors,
                   const std::map<std::string, std::span<const std::byte>>& blobs) {
  validate(metadata.config, path.string());
  const Layout layout = lay_out(metadata, tensors, blobs);
  metadata.checksums = block_checksums(layout.records(), metadata.config);
  std::string json;
  try {
    metadata.checksums[kMetadataBlock] = metadata_checksum(package_metadata_to_json(metadata));
    json = package_metadata_to_json(metadata).dump();
  } catch (const Json::exception& e) {
    fail(ErrorCode::kInvalidArgument, "[package] '{}': metadata is no UTF-8 JSON: {}",
         path.string(), e.what());
  }
  if (json.size() >= kMaxMetadataBytes) {
    fail(ErrorCode::kUnsupported, "[package] '{}': {} bytes of metadata, the limit is {}",
         path.string(), json.size(), kMaxMetadataBytes);
  }
  std::vector<TensorToWrite> writes;
  for (const TensorRecord& record : layout.records()) {
    writes.push_back({record.name, record.dtype, record.shape, {record.bytes}});
  }
  write_safetensors(path, writes, {{kPackageKey, json}}, kLineBytes);
}

}  // namespace packlight::io

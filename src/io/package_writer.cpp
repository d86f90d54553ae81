#include "base/fail.h"
#include "codec/tile.h"
#include "io/package_json.h"

namespace packlight::io {
namespace {

using codec::DType;

void check_weight(const TensorSpec& spec, const PackageTensor& given,
                  const PackageMetadata& metadata) {
  const codec::EncodedTensor& w = given.weight;
  if (given.name != spec.name || w.rows != spec.rows || w.cols != spec.cols) {
    fail(ErrorCode::kInvalidArgument,
         "[package] tensor '{}' [{}, {}] given where '{}' [{}, {}] belongs", given.name, w.rows,
         w.cols, spec.name, spec.rows, spec.cols);
  }
  if (given.sparse.form == codec::Sparsity::kNone) {
    codec::check_sizes(w, given.name);
  } else {
    codec::check_sparse(given.sparse, given.name);
  }
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
  if (f.dtype != w.dtype || f.sparsity != given.sparse.form ||
      (grouped && (group != w.group_size || f.symmetric != w.symmetric()))) {
    fail(ErrorCode::kInvalidArgument,
         "[package] matrix '{}': {} in groups of {} does not match its format {}", spec.name,
         codec::info(w.dtype).name, w.group_size, to_string(f));
  }
}

PackageLayout lay_out(const PackageMetadata& metadata, std::span<const PackageTensor> tensors,
                      const std::map<std::string, std::span<const std::byte>>& blobs) {
  const std::vector<TensorSpec> specs = decoder_tensors(metadata.config);
  if (tensors.size() != specs.size()) {
    fail(ErrorCode::kInvalidArgument, "[package] {} tensors given, the model has {}",
         tensors.size(), specs.size());
  }
  std::map<std::string_view, const PackageTensor*> given;
  for (const PackageTensor& tensor : tensors) given[tensor.name] = &tensor;
  PackageLayout layout;
  for (const TensorSpec& spec : specs) {
    const auto it = given.find(spec.name);
    if (it == given.end())
      fail(ErrorCode::kInvalidArgument, "[package] tensor '{}' is not given", spec.name);
    check_weight(spec, *it->second, metadata);
    const codec::EncodedTensor& w = it->second->weight;
    if (spec.is_vector) {
      layout.add(spec.name, DType::kF32, {w.rows * w.cols}, w.data);
    } else if (it->second->sparse.form != codec::Sparsity::kNone) {
      layout.add_tiles(spec.name, it->second->sparse);
    } else {
      layout.add_tiles(spec.name, w);
    }
  }
  for (const auto& [name, bytes] : blobs) layout.add_blob(name, bytes);
  return layout;
}

}  // namespace

void write_package(const std::filesystem::path& path, PackageMetadata metadata,
                   std::span<const PackageTensor> tensors,
                   const std::map<std::string, std::span<const std::byte>>& blobs) {
  validate(metadata.config, path.string());
  const PackageLayout layout = lay_out(metadata, tensors, blobs);
  write_package_file(path, layout, decoder_blocks(metadata.config),
                     package_metadata_to_json(metadata));
}

}  // namespace packlight::io

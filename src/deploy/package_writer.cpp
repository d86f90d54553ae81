#include "deploy/package_writer.h"

#include <optional>
#include <string_view>
#include <vector>

#include "base/fail.h"
#include "codec/sparse_tile.h"
#include "deploy/weight_view.h"

namespace packlight::deploy {
namespace {

constexpr std::string_view kEmbedding = "model.embed_tokens.weight";

void check_format(const std::string& name, const codec::EncodedTensor& tensor, const io::WeightFormat& format) {
  const bool f16 = format.dtype == codec::DType::kTileF16;
  const int64_t group = format.group_size == 0 ? tensor.cols : format.group_size;
  if (tensor.dtype == format.dtype && (f16 || (tensor.group_size == group && tensor.symmetric() == format.symmetric))) return;
  fail(ErrorCode::kInvalidArgument, "[deploy] tensor '{}' is stored as {} in groups of {}, not as {}: quantize the model first",
       name, codec::info(tensor.dtype).name, tensor.group_size, io::to_string(format));
}

// The codes of a pruned matrix without its zeros, where that is smaller; the format says so then. Rows of
// an embedding are looked up one by one, so it stays dense.
codec::SparseTiles sparse_tiles(const graph::Graph& graph, const io::TensorSpec& spec, const codec::EncodedTensor& tensor) {
  const std::optional<graph::ZeroPattern>& zeros = graph.value(*graph.find(spec.name)).zeros;
  if (!zeros || tensor.dtype != codec::DType::kTileInt4 || spec.name == kEmbedding) return {};
  std::optional<codec::SparseTiles> sparse;
  if (*zeros == graph::ZeroPattern{2, 4}) sparse = codec::compress_tiles(tensor, codec::Sparsity::kTwoOfFour);
  if (!sparse) sparse = codec::compress_tiles(tensor, codec::Sparsity::kBitmask);
  return sparse->size_bytes() < tensor.size_bytes() ? *sparse : codec::SparseTiles{};
}

}  // namespace

void write_package(const import::LanguageModel& model, const std::map<std::string, io::WeightFormat>& formats,
                   const Json& recipe, std::span<const std::byte> calibration_tokens, const std::filesystem::path& path) {
  if (!model.tokenizer) {
    fail(ErrorCode::kUnsupported, "[deploy] '{}': the model has no tokenizer, and a package needs one", model.path.string());
  }
  io::PackageMetadata metadata;
  metadata.config = model.config;
  metadata.formats = formats;
  metadata.recipe = recipe;
  std::vector<io::PackageTensor> tensors;
  for (const io::TensorSpec& spec : io::decoder_tensors(model.config)) {
    codec::SparseTiles sparse;
    codec::EncodedTensor tensor = encoded_weight(model.graph, spec);
    if (spec.is_vector) {
      tensor = to_f32(tensor, spec.name);
    } else {
      check_format(spec.name, tensor, formats.at(spec.name));
      sparse = sparse_tiles(model.graph, spec, tensor);
      metadata.formats.at(spec.name).sparsity = sparse.form;
    }
    tensors.push_back({spec.name, std::move(tensor), std::move(sparse)});
  }
  const std::vector<std::byte> tokenizer = model.tokenizer->to_blob();
  std::map<std::string, std::span<const std::byte>> blobs{{"tokenizer", tokenizer}};
  if (!calibration_tokens.empty()) blobs["calibration_tokens"] = calibration_tokens;
  io::write_package(path, std::move(metadata), tensors, blobs);
}

}  // namespace packlight::deploy

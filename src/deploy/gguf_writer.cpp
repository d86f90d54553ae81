#include "deploy/gguf_writer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <vector>

#include "base/fail.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "codec/ggml_blocks.h"
#include "codec/tile.h"
#include "deploy/row_order.h"
#include "deploy/weight_view.h"
#include "import/pruning_record.h"

namespace packlight::deploy {
namespace {

using codec::DType;
using codec::EncodedTensor;
using Metadata = std::vector<std::pair<std::string, io::GgufValue>>;

// What the metadata calls the commonest type of the matrices (llama.cpp's llama_ftype).
struct FileType {
  DType dtype;
  uint32_t number;
};
constexpr std::array<FileType, 8> kFileTypes{{{DType::kF32, 0},
                                              {DType::kF16, 1},
                                              {DType::kQ4_0, 2},
                                              {DType::kQ4_1, 3},
                                              {DType::kQ8_0, 7},
                                              {DType::kQ5_0, 8},
                                              {DType::kQ5_1, 9},
                                              {DType::kBF16, 32}}};

// How a weight is stored in GGUF.
DType target_type(const EncodedTensor& tensor, const io::TensorSpec& spec) {
  if (spec.is_vector) return DType::kF32;
  switch (tensor.dtype) {
    case DType::kTileInt4: return tensor.symmetric() ? DType::kQ4_0 : DType::kQ4_1;
    case DType::kTileInt8: return DType::kQ8_0;
    case DType::kTileF16: return DType::kF16;
    case DType::kF64:
      fail(ErrorCode::kUnsupported, "[export] tensor '{}' is F64, which a GGUF model does not hold without loss", spec.name);
    default: return tensor.dtype;
  }
}

std::vector<std::byte> copy(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

// Row-major bytes of a matrix in the type that target_type() chose, rows in the order they are stored in.
std::vector<std::byte> row_major(const EncodedTensor& tensor, const std::string& name, DType target) {
  if (tensor.dtype == DType::kTileF16) return f16_tile_rows(tensor);
  if (!codec::is_tile(tensor.dtype)) return copy(tensor.data);
  try {
    return codec::to_ggml_blocks(codec::unpack(tensor), target);
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("[export] tensor '{}': {}", name, e.what()));
  }
}

class GgufModel {
 public:
  explicit GgufModel(const import::LanguageModel& model)
      : model_(model), specs_(io::decoder_tensors(model.config)), rotary_order_(model.config.family != "qwen2") {}

  void write(const std::filesystem::path& path) {
    const io::DecoderConfig& config = model_.config;
    if (config.sliding_window > 0 && config.sliding_window < config.max_positions) {
      fail(ErrorCode::kUnsupported,
           "[export] '{}': llama.cpp ignores the sliding window of {} tokens, so beyond it a GGUF model would be another one: "
           "--context {} writes one that ends there, --format hf keeps both", model_.path.string(), config.sliding_window,
           config.sliding_window);
    }
    std::vector<io::GgufTensorToWrite> tensors;
    for (const io::TensorSpec& spec : specs_) {
      const EncodedTensor tensor = encoded_weight(model_.graph, spec);
      std::vector<int64_t> shape{spec.cols};
      if (!spec.is_vector) shape.insert(shape.begin(), spec.rows);
      tensors.push_back({io::gguf_tensor_name(spec.name), target_type(tensor, spec), shape, {}, nullptr});
    }
    const std::vector<float> factors = io::rope_frequency_factors(model_.config);
    if (!factors.empty()) {
      tensors.push_back({"rope_freqs.weight", DType::kF32, {static_cast<int64_t>(factors.size())},
                         std::as_bytes(std::span(factors)), nullptr});
    }
    base::Progress progress("Writing GGUF", tensors.size());
    io::write_gguf(path, metadata(tensors), tensors, [&](size_t index) {
      std::vector<std::byte> bytes = make(specs_[index]);
      progress.advance();
      return bytes;
    });
  }

 private:
  // 0 where rows stay as they are.
  int64_t rotary_heads(const io::TensorSpec& spec) const {
    constexpr std::string_view kLayers = "model.layers.";
    const bool query = spec.name.find(".self_attn.q_proj.") != std::string::npos;
    const bool key = spec.name.find(".self_attn.k_proj.") != std::string::npos;
    if (!rotary_order_ || (!query && !key)) return 0;
    size_t layer = 0;
    std::from_chars(spec.block.data() + kLayers.size(), spec.block.data() + spec.block.size(), layer);
    return query ? model_.config.heads.at(layer) : model_.config.kv_heads.at(layer);
  }

  std::vector<std::byte> make(const io::TensorSpec& spec) const {
    EncodedTensor tensor = encoded_weight(model_.graph, spec);
    const int64_t heads = rotary_heads(spec);
    if (spec.is_vector) {
      tensor = to_f32(tensor, spec.name);
      if (heads == 0) return copy(tensor.data);
      return reorder_rows(tensor.data, spec.cols, spec.cols / heads, RowOrder::kGgufRotary);
    }
    std::vector<std::byte> bytes = row_major(tensor, spec.name, target_type(tensor, spec));
    base::release_pages(tensor.data);
    const bool is_rotary = tensor.rotary_interleaved_heads > 0, wanted = heads > 0;
    if (is_rotary == wanted) return bytes;
    const int64_t head_dim = spec.rows / (wanted ? heads : tensor.rotary_interleaved_heads);
    return reorder_rows(bytes, spec.rows, head_dim, wanted ? RowOrder::kGgufRotary : RowOrder::kUsual);
  }

  Metadata metadata(const std::vector<io::GgufTensorToWrite>& tensors) const {
    Metadata keys = io::decoder_config_to_gguf(model_.config);
    std::map<DType, int> matrices;
    for (const auto& tensor : tensors) matrices[tensor.dtype] += tensor.shape.size() == 2 ? 1 : 0;
    const DType commonest = std::max_element(matrices.begin(), matrices.end(), [](const auto& a, const auto& b) {
                              return a.second < b.second;
                            })->first;
    for (const FileType& type : kFileTypes) {
      if (type.dtype == commonest) keys.emplace_back("general.file_type", io::GgufValue{type.number});
    }
    if (codec::is_ggml_block(commonest)) keys.emplace_back("general.quantization_version", io::GgufValue{uint32_t{2}});
    if (const Json pruning = import::pruning_to_json(model_.graph); !pruning.empty()) {
      keys.emplace_back(import::kGgufPruningKey, io::GgufValue{pruning.dump()});
    }
    for (auto& entry : tokenizer_keys()) keys.push_back(std::move(entry));
    return keys;
  }

  Metadata tokenizer_keys() const {
    if (!model_.tokenizer) {
      fail(ErrorCode::kUnsupported, "[export] '{}': the model has no tokenizer, and a GGUF model needs one", model_.path.string());
    }
    Metadata keys = model_.tokenizer->to_gguf();
    const auto rows = static_cast<size_t>(model_.config.vocab_size);
    for (auto& [key, value] : keys) {
      if (auto* pieces = std::get_if<std::vector<std::string>>(&value.value); pieces && key == "tokenizer.ggml.tokens") {
        if (pieces->size() > rows) {
          fail(ErrorCode::kUnsupported, "[export] the tokenizer has {} tokens, the embedding only {} rows", pieces->size(), rows);
        }
        while (pieces->size() < rows) pieces->push_back(fmt::format("[PAD{}]", pieces->size()));
      } else if (auto* kinds = std::get_if<std::vector<int32_t>>(&value.value); kinds && key == "tokenizer.ggml.token_type") {
        constexpr int32_t kUnused = 5;
        kinds->resize(rows, kUnused);
      } else if (auto* scores = std::get_if<std::vector<float>>(&value.value); scores && key == "tokenizer.ggml.scores") {
        scores->resize(rows, 0.0f);
      }
    }
    return keys;
  }

  const import::LanguageModel& model_;
  const std::vector<io::TensorSpec> specs_;
  const bool rotary_order_;
};

}  // namespace

void write_gguf_model(const import::LanguageModel& model, const std::filesystem::path& path) { GgufModel(model).write(path); }

}  // namespace packlight::deploy

#include "deploy/hf_writer.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "codec/tile.h"
#include "deploy/compressed_tensors.h"
#include "deploy/folder_output.h"
#include "deploy/row_order.h"
#include "deploy/weight_view.h"
#include "import/pruning_record.h"

namespace packlight::deploy {
namespace {

using codec::DType;
using codec::EncodedTensor;

constexpr std::string_view kWeightSuffix = ".weight";

// One weight of the model and the tensors of the folder that hold it.
struct Plan {
  io::TensorSpec spec;
  std::optional<CompressedForm> form;  // absent: one dense tensor
  std::vector<CompressedPart> parts;   // suffixes are whole names here
};

bool is_linear(const graph::Graph& graph, const std::string& name, bool* int8_activations) {
  const auto id = graph.find(name);
  bool linear = false, looked_up = false;
  for (const graph::Node& node : graph.nodes()) {
    const auto weight = graph::linear_weight(graph, node);
    if (weight && weight->value == *id) {
      linear = true;
      *int8_activations = node.input_quant == graph::ActivationQuant::kInt8PerToken32;
    }
    looked_up = looked_up || (node.op == "Gather" && node.inputs[0] == *id);
  }
  return linear && !looked_up;
}

DType dense_type(const EncodedTensor& tensor) {
  if (tensor.dtype == DType::kTileF16) return DType::kF16;
  return codec::is_float(tensor.dtype) ? tensor.dtype : DType::kF32;
}

std::vector<std::byte> dense_bytes(const EncodedTensor& tensor, const std::string& name) {
  if (tensor.dtype == DType::kTileF16) return f16_tile_rows(tensor);
  if (codec::is_float(tensor.dtype)) {
    if (tensor.rotary_interleaved_heads > 0) {
      return reorder_rows(tensor.data, tensor.rows, tensor.rows / tensor.rotary_interleaved_heads, RowOrder::kUsual);
    }
    return {tensor.data.begin(), tensor.data.end()};
  }
  const EncodedTensor decoded = to_f32(tensor, name);
  return {decoded.data.begin(), decoded.data.end()};
}

void write_text(const std::filesystem::path& path, std::string_view text) {
  base::AtomicFile file(path);
  file.write(text);
  file.commit();
}

class HfModel {
 public:
  HfModel(const import::LanguageModel& model, const HfOptions& options) : model_(model), options_(options) {
    for (const io::TensorSpec& spec : io::decoder_tensors(model.config)) add(spec);
  }

  void write(const std::filesystem::path& folder) {
    write_text(folder / "config.json", config().dump(2) + "\n");
    write_text(folder / "generation_config.json", generation_config().dump(2) + "\n");
    if (model_.tokenizer) {
      write_text(folder / "tokenizer.json", model_.tokenizer->to_tokenizer_json());
      write_text(folder / "tokenizer_config.json", model_.tokenizer->to_tokenizer_config_json());
    }
    write_weights(folder);
  }

 private:
  void add(const io::TensorSpec& spec) {
    const EncodedTensor tensor = encoded_weight(model_.graph, spec);
    Plan plan{spec, std::nullopt, {}};
    const std::string module = spec.name.substr(0, spec.name.size() - kWeightSuffix.size());
    bool int8_activations = false;
    const bool linear = !spec.is_vector && is_linear(model_.graph, spec.name, &int8_activations);
    if (linear && (tensor.dtype == DType::kTileInt4 || tensor.dtype == DType::kTileInt8)) {
      const int bits = tensor.dtype == DType::kTileInt4 ? 4 : 8;
      plan.form = compressed_form(bits, tensor.symmetric(), tensor.group_size, tensor.cols, int8_activations);
      plan.parts = compressed_parts(*plan.form, spec.rows, spec.cols);
      for (CompressedPart& part : plan.parts) part.suffix = module + "." + part.suffix;
      forms_[module] = *plan.form;
    } else {
      std::vector<int64_t> shape{spec.cols};
      if (!spec.is_vector) shape.insert(shape.begin(), spec.rows);
      plan.parts = {{spec.name, dense_type(tensor), shape}};
      if (linear) ignored_.push_back(module);
      if (!spec.is_vector) dense_types_.insert(dense_type(tensor));
    }
    plans_.push_back(std::move(plan));
  }

  Json config() const {
    Json json = io::decoder_config_to_hf(model_.config);
    const bool one_type = forms_.empty() && dense_types_.size() == 1;
    const DType type = !forms_.empty() ? DType::kF16 : one_type ? *dense_types_.begin() : DType::kF32;
    json["torch_dtype"] = type == DType::kF16 ? "float16" : type == DType::kBF16 ? "bfloat16" : "float32";
    if (Json pruning = import::pruning_to_json(model_.graph); !pruning.empty()) json[import::kHfPruningKey] = std::move(pruning);
    if (forms_.empty()) return json;
    std::vector<std::string> ignored = ignored_;
    if (model_.config.tied_embeddings) ignored.push_back("lm_head");
    json["quantization_config"] = quantization_config(forms_, ignored);
    return json;
  }

  Json generation_config() const {
    Json json = {{"_from_model_config", true}};
    const io::DecoderConfig& c = model_.config;
    if (c.bos_token >= 0) json["bos_token_id"] = c.bos_token;
    if (c.eos_tokens.size() == 1) json["eos_token_id"] = c.eos_tokens[0];
    if (c.eos_tokens.size() > 1) json["eos_token_id"] = c.eos_tokens;
    return json;
  }

  static uint64_t part_bytes(const CompressedPart& part) { return io::tensor_bytes(part.dtype, part.shape, part.suffix, "export"); }

  // Plans [first, last) of each shard.
  std::vector<std::pair<size_t, size_t>> shards() const {
    std::vector<std::pair<size_t, size_t>> out{{0, 0}};
    uint64_t bytes = 0;
    for (size_t i = 0; i < plans_.size(); ++i) {
      uint64_t size = 0;
      for (const CompressedPart& part : plans_[i].parts) size += part_bytes(part);
      if (bytes > 0 && bytes + size > options_.shard_bytes) {
        out.emplace_back(i, i);
        bytes = 0;
      }
      bytes += size;
      out.back().second = i + 1;
    }
    return out;
  }

  void write_weights(const std::filesystem::path& folder) {
    const auto all = shards();
    base::Progress progress("Writing folder", plans_.size());
    Json map = Json::object();
    uint64_t total = 0;
    for (size_t s = 0; s < all.size(); ++s) {
      const std::string name = all.size() == 1 ? "model.safetensors"
                                               : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, all.size());
      write_shard(folder / name, all[s].first, all[s].second, progress);
      for (size_t i = all[s].first; i < all[s].second; ++i) {
        for (const CompressedPart& part : plans_[i].parts) {
          map[part.suffix] = name;
          total += part_bytes(part);
        }
      }
    }
    if (all.size() == 1) return;
    const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
    write_text(folder / "model.safetensors.index.json", index.dump(2) + "\n");
  }

  // safetensors has no holes: tensors of wider elements come first, so that every one is aligned.
  void write_shard(const std::filesystem::path& path, size_t first, size_t last, base::Progress& progress) {
    struct Entry {
      size_t plan, part;
    };
    std::vector<Entry> entries;
    for (size_t i = first; i < last; ++i) {
      for (size_t p = 0; p < plans_[i].parts.size(); ++p) entries.push_back({i, p});
    }
    const auto width = [&](const Entry& e) { return codec::info(plans_[e.plan].parts[e.part].dtype).block_bytes; };
    std::stable_sort(entries.begin(), entries.end(), [&](const Entry& a, const Entry& b) { return width(a) > width(b); });
    std::vector<io::TensorToWrite> tensors;
    for (const Entry& e : entries) {
      const CompressedPart& part = plans_[e.plan].parts[e.part];
      tensors.push_back({part.suffix, part.dtype, part.shape, {}});
    }
    io::write_safetensors(path, tensors, {{"format", "pt"}}, 8, [&](size_t index) {
      if (entries[index].part == 0) progress.advance();
      return make(plans_[entries[index].plan], entries[index].part);
    });
  }

  std::vector<std::byte> make(const Plan& plan, size_t part) const {
    const EncodedTensor tensor = encoded_weight(model_.graph, plan.spec);
    std::vector<std::byte> bytes =
        plan.form ? compress(codec::unpack(tensor), *plan.form, part) : dense_bytes(tensor, plan.spec.name);
    base::release_pages(tensor.data);
    return bytes;
  }

  const import::LanguageModel& model_;
  const HfOptions options_;
  std::vector<Plan> plans_;
  std::map<std::string, CompressedForm> forms_;
  std::vector<std::string> ignored_;
  std::set<DType> dense_types_;
};

}  // namespace

void write_hf_folder(const import::LanguageModel& model, const std::filesystem::path& path, const HfOptions& options) {
  FolderOutput output(path);
  HfModel(model, options).write(output.folder());
  output.commit();
}

}  // namespace packlight::deploy

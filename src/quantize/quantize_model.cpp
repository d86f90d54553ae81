#include "quantize/quantize_model.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_map>

#include "base/fail.h"
#include "base/interrupt.h"
#include "base/mapped_file.h"
#include "base/progress.h"
#include "base/spool.h"
#include "calib/input_statistics.h"
#include "codec/tile.h"
#include "quantize/rounding.h"

namespace packlight::quantize {
namespace {

using codec::DType;
using graph::ValueId;

// Floats of a matrix decoded at once: bounds memory whatever the matrix.
constexpr int64_t kChunkFloats = 4 << 20;

std::span<const std::byte> stored_bytes(const graph::Weight& weight) {
  if (const auto* encoded = std::get_if<codec::EncodedTensor>(&weight)) return encoded->data;
  const auto& tensor = std::get<at::Tensor>(weight);
  return {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

// Rows of a weight in checkpoint orientation as f32; a vector is one row.
void read_rows(const graph::Weight& weight, int64_t row0, int64_t row1, std::vector<float>& out) {
  if (const auto* encoded = std::get_if<codec::EncodedTensor>(&weight)) {
    out.resize((row1 - row0) * encoded->cols);
    codec::decode_rows(*encoded, row0, row1, out.data());
    return;
  }
  const auto& tensor = std::get<at::Tensor>(weight);
  const at::Tensor rows = (tensor.dim() == 1 ? tensor : tensor.slice(0, row0, row1)).to(at::kFloat).contiguous();
  const float* data = rows.data_ptr<float>();
  out.assign(data, data + rows.numel());
}

// Vectors are kept as they are, so they are checked here; matrices when they are rounded.
void check_weight(const std::string& origin, const io::TensorSpec& spec, const graph::Weight& weight) {
  const auto* encoded = std::get_if<codec::EncodedTensor>(&weight);
  if (encoded != nullptr && codec::is_tile(encoded->dtype)) {
    fail(ErrorCode::kUnsupported,
         "[quantize] '{}': tensor '{}' is packed as {} already: quantize the original, not what was quantized before", origin,
         spec.name, codec::info(encoded->dtype).name);
  }
  if (!spec.is_vector) return;
  std::vector<float> values;
  read_rows(weight, 0, 1, values);
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    fail(ErrorCode::kInvalidArgument, "[quantize] '{}': tensor '{}': element {} is {}; weights must be finite", origin,
         spec.name, i, values[i]);
  }
}

std::filesystem::path folder_of(const std::filesystem::path& file) {
  return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

// A packed matrix whose bytes lie in the spool; the tensor's spans are filled when that is mapped.
struct Packed {
  struct Range {
    uint64_t offset = 0, bytes = 0;
  };
  codec::EncodedTensor tensor;
  Range data, scales, zeros;
};

// Rounds matrices and collects their tiles in a spool.
class MatrixPacker {
 public:
  MatrixPacker(std::string origin, ScaleMethod method, const QuantizeOptions& options)
      : origin_(std::move(origin)), method_(method), pool_(options.threads), spool_(options.output) {}

  LayerReport pack(const io::TensorSpec& spec, ValueId id, const graph::Weight& weight, const io::WeightFormat& format,
                   std::span<const double> mean_square) {
    Packed packed;
    packed.tensor.dtype = format.dtype;
    packed.tensor.rows = spec.rows;
    packed.tensor.cols = spec.cols;
    const bool f16 = format.dtype == DType::kTileF16;
    if (!f16) packed.tensor.group_size = format.group_size == 0 ? spec.cols : format.group_size;
    const std::vector<float> importance = normalised_importance(mean_square, spec.cols);
    const RoundingOptions rounding{format.dtype == DType::kTileInt8 ? 8 : 4, format.group_size, format.symmetric, method_};

    // Whole row tiles at a time: the chunks' tiles, of whole 64-byte lines, follow each other as the matrix's do.
    const int64_t step = std::max<int64_t>(1, kChunkFloats / spec.cols / codec::kTileRows) * codec::kTileRows;
    std::vector<float> values;
    std::vector<std::byte> scales, zeros;
    RoundingError error;
    for (int64_t row = 0; row < spec.rows; row += step) {
      base::check_interrupt();
      const int64_t end = std::min(row + step, spec.rows);
      read_rows(weight, row, end, values);
      const MatrixRows rows{spec.name, row, end - row, spec.cols, values, origin_};
      const codec::EncodedTensor chunk = f16 ? round_rows_f16(rows, importance, &error)
                                             : codec::pack(round_rows(rows, rounding, importance, pool_, &error));
      const uint64_t offset = spool_.append(chunk.data);
      if (row == 0) packed.data.offset = offset;
      packed.data.bytes += chunk.data.size();
      scales.insert(scales.end(), chunk.scales.begin(), chunk.scales.end());
      zeros.insert(zeros.end(), chunk.zeros.begin(), chunk.zeros.end());
    }
    packed.scales = {spool_.append(scales), scales.size()};
    packed.zeros = {spool_.append(zeros), zeros.size()};
    const uint64_t bytes = packed.data.bytes + scales.size() + zeros.size();
    packed_[id] = std::move(packed);
    return {spec.name, format, bytes, error.relative()};
  }

  // Gives the graph its new weights.
  void install(graph::Graph& graph) {
    const auto file = spool_.finish();
    const auto view = [&](const Packed::Range& range) { return file->bytes().subspan(range.offset, range.bytes); };
    for (auto& [id, packed] : packed_) {
      packed.tensor.data = view(packed.data);
      packed.tensor.scales = view(packed.scales);
      packed.tensor.zeros = view(packed.zeros);
      packed.tensor.owner = file;
      codec::check_sizes(packed.tensor, graph.value(id).name);
      graph.value(id).weight = packed.tensor;
      graph.value(id).type = graph::ElementType::kF32;
    }
  }

 private:
  std::string origin_;
  ScaleMethod method_;
  base::ThreadPool pool_;
  base::Spool spool_;
  std::unordered_map<ValueId, Packed> packed_;
};

// One matrix to pack, and the last block that reads it: it is rounded once that block's statistics are known.
struct Job {
  const io::TensorSpec* spec;
  ValueId id;
  io::WeightFormat format;
  size_t block = 0;
};

std::vector<Job> plan_jobs(const import::LanguageModel& model, const Recipe& recipe,
                           std::span<const io::TensorSpec> tensors, std::span<const graph::BlockRange> blocks) {
  const auto formats = plan_formats(tensors, recipe.body, recipe.head, recipe.overrides);
  std::unordered_map<ValueId, size_t> last_block;
  for (size_t b = 0; b < blocks.size(); ++b) {
    for (graph::NodeId n = blocks[b].begin; n < blocks[b].end; ++n) {
      for (const ValueId input : model.graph.node(n).inputs) last_block[input] = b;
    }
  }
  std::vector<Job> jobs;
  for (const io::TensorSpec& spec : tensors) {
    const auto id = model.graph.find(spec.name);
    if (!id || !model.graph.value(*id).weight) {
      fail(ErrorCode::kInternal, "[quantize] tensor '{}' is no weight of the graph", spec.name);
    }
    const graph::Weight& weight = *model.graph.value(*id).weight;
    check_weight(model.graph.origin, spec, weight);
    if (!spec.is_vector) jobs.push_back({&spec, *id, formats.at(spec.name), last_block.at(*id)});
  }
  return jobs;
}

void mark_activations(graph::Graph& graph, const std::vector<Job>& jobs) {
  std::unordered_map<ValueId, bool> int8_activations;
  for (const Job& job : jobs) int8_activations[job.id] = job.format.int8_activations;
  for (graph::NodeId n = 0; n < static_cast<graph::NodeId>(graph.nodes().size()); ++n) {
    const auto weight = graph::linear_weight(graph, graph.node(n));
    if (!weight || !int8_activations.count(weight->value)) continue;
    graph.node(n).input_quant =
        int8_activations[weight->value] ? graph::ActivationQuant::kInt8PerToken32 : graph::ActivationQuant::kNone;
  }
}

}  // namespace

std::vector<LayerReport> quantize_model(import::LanguageModel& model, const Recipe& recipe,
                                        const calib::CalibrationTokens* tokens, const QuantizeOptions& options) {
  const std::vector<io::TensorSpec> tensors = io::decoder_tensors(model.config);
  const std::vector<graph::BlockRange> blocks = graph::blocks(model.graph);
  const std::vector<Job> jobs = plan_jobs(model, recipe, tensors, blocks);

  std::optional<calib::InputStatistics> statistics;
  if (recipe.method == ScaleMethod::kSearch) {
    if (tokens == nullptr || tokens->ids.empty()) {
      fail(ErrorCode::kInvalidArgument, "[quantize] the scale search needs calibration tokens");
    }
    statistics.emplace(model.graph, *tokens,
                       calib::StreamOptions{options.max_ram_bytes, folder_of(options.output)});
  }
  MatrixPacker packer(model.graph.origin, recipe.method, options);
  base::Progress progress(statistics ? "Calibrating and rounding" : "Rounding",
                          jobs.size() + (statistics ? blocks.size() * statistics->batches() : 0));
  progress.set_quiet(options.quiet);
  calib::MeanSquares mean_squares;
  std::unordered_map<ValueId, LayerReport> reports;
  for (size_t b = 0; b < blocks.size(); ++b) {
    if (statistics) mean_squares.merge(statistics->run_block(b, [&] { progress.advance(); }));
    for (const Job& job : jobs) {
      if (job.block != b) continue;
      const graph::Weight& weight = *model.graph.value(job.id).weight;
      const auto found = mean_squares.find(job.id);
      reports[job.id] = packer.pack(*job.spec, job.id, weight, job.format,
                                    found == mean_squares.end() ? std::span<const double>() : found->second);
      base::release_pages(stored_bytes(weight));
      progress.advance();
    }
    base::release_freed_memory();
  }
  packer.install(model.graph);
  mark_activations(model.graph, jobs);
  std::vector<LayerReport> ordered;
  for (const Job& job : jobs) ordered.push_back(reports.at(job.id));
  return ordered;
}

}  // namespace packlight::quantize

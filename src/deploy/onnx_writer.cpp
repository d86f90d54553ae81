#include "deploy/onnx_writer.h"

#include <ATen/core/Tensor.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <system_error>
#include <unordered_set>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "deploy/onnx_scope.h"
#include "graph/weight.h"

namespace packlight::deploy {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kOldestOpset = 13, kNewestOpset = 23;
constexpr int64_t kBlockedOpset = 21;  // brought INT4, and DequantizeLinear by blocks
// IR versions of the releases that brought opsets 13, 14, ...
// (https://github.com/onnx/onnx/blob/main/docs/Versioning.md).
constexpr std::array<int64_t, kNewestOpset - kOldestOpset + 1> kIrVersions = {7, 7, 8,  8,  8, 8,
                                                                              9, 9, 10, 10, 11};

// Calls back with every graph of a model.
template <class Function>
void for_each_graph(const graph::Graph& graph, const Function& function) {
  function(graph);
  for (const graph::Node& node : graph.nodes()) {
    for (const auto& [name, attribute] : node.attributes) {
      const auto* body = std::get_if<std::shared_ptr<graph::Graph>>(&attribute);
      if (body != nullptr && *body != nullptr) for_each_graph(**body, function);
    }
  }
}

// No less than what the weights take in the file.
uint64_t weight_bytes_at_most(const graph::Graph& main, const OnnxOptions& options) {
  uint64_t sum = 0;
  for_each_graph(main, [&](const graph::Graph& graph) {
    for (const graph::Value& value : graph.values()) {
      if (!value.weight) continue;
      const auto* encoded = std::get_if<codec::EncodedTensor>(&*value.weight);
      const bool packed =
          encoded != nullptr && options.weights != OnnxWeights::kDequantize &&
          (encoded->dtype == codec::DType::kTileInt4 || encoded->dtype == codec::DType::kTileInt8);
      sum += encoded == nullptr ? graph::weight_bytes(*value.weight)
             : packed           ? 2 * encoded->size_bytes()
                                : sizeof(float) * encoded->rows * encoded->cols;
    }
  });
  return sum;
}

// Why opset 21 is needed; nothing when it is not.
std::optional<std::string> need_of_blocks(const graph::Graph& main, const OnnxOptions& options) {
  std::optional<std::string> why;
  for_each_graph(main, [&](const graph::Graph& graph) {
    for (const graph::Node& node : graph.nodes()) {
      const bool quantizes = node.op == "DequantizeLinear" || node.op == "QuantizeLinear";
      if (quantizes && node.domain.empty() && node.integer("block_size", 0) != 0)
        why = fmt::format("node '{}' ({}) works by blocks", node.name, node.op);
      if (is_narrow(node) && node.integer("bits", 8) <= 4)
        why = fmt::format("node '{}' ({}) has codes of {} bits, which go as INT4", node.name,
                          node.op, node.integer("bits", 8));
    }
    if (options.weights != OnnxWeights::kQdq) return;
    for (const graph::Value& value : graph.values()) {
      const auto* encoded =
          value.weight ? std::get_if<codec::EncodedTensor>(&*value.weight) : nullptr;
      if (encoded == nullptr) continue;
      if (encoded->dtype == codec::DType::kTileInt4)
        why = fmt::format("tensor '{}' is INT4", value.name);
      if (encoded->dtype == codec::DType::kTileInt8 && encoded->groups_per_row() > 1)
        why = fmt::format("tensor '{}' has several scales a row", value.name);
    }
  });
  return why;
}

OnnxReport begin_report(const graph::Graph& graph, const OnnxOptions& options) {
  if (options.opset < kOldestOpset || options.opset > kNewestOpset) {
    fail(ErrorCode::kInvalidArgument, "[export.onnx] opset {}; {} to {} are written", options.opset,
         kOldestOpset, kNewestOpset);
  }
  OnnxReport report;
  report.opset = options.opset;
  if (options.opset < kBlockedOpset) {
    if (const auto why = need_of_blocks(graph, options)) {
      if (options.exact_opset) {
        fail(ErrorCode::kUnsupported,
             "[export.onnx] opset {} was asked for: {}; the least opset for that is {}",
             options.opset, *why, kBlockedOpset);
      }
      report.opset = kBlockedOpset;
      report.notices.push_back(
          fmt::format("written at opset {}: {}, which came with it", kBlockedOpset, *why));
    }
  }
  report.ir_version = kIrVersions[report.opset - kOldestOpset];
  return report;
}

void set_head(onnx::ModelProto& proto, const OnnxModel& model) {
  proto.set_ir_version(model.report.ir_version);
  proto.set_producer_name(model.options.producer_name);
  proto.set_producer_version(model.options.producer_version);
  const auto add_opset = [&](const std::string& domain, int64_t version) {
    auto* opset = proto.add_opset_import();
    opset->set_domain(domain);
    opset->set_version(version);
  };
  add_opset("", model.report.opset);
  for (const auto& [domain, version] : model.other_domains) add_opset(domain, version);
  for (const auto& [key, value] : model.options.metadata) {
    auto* entry = proto.add_metadata_props();
    entry->set_key(key);
    entry->set_value(value);
  }
}

class FileStream : public google::protobuf::io::CopyingOutputStream {
 public:
  explicit FileStream(base::AtomicFile& file) : file_(file) {}
  bool Write(const void* data, int size) override {
    file_.write({static_cast<const std::byte*>(data), static_cast<size_t>(size)});
    return true;
  }

 private:
  base::AtomicFile& file_;
};

// Names that something reads: a node of this graph or its subgraphs, or who takes its outputs; and
// inputs, whose initializers are their defaults.
void add_used_names(const onnx::GraphProto& graph, std::unordered_set<std::string>& names) {
  for (const auto& input : graph.input()) names.insert(input.name());
  for (const auto& output : graph.output()) names.insert(output.name());
  for (const onnx::NodeProto& node : graph.node()) {
    names.insert(node.input().begin(), node.input().end());
    for (const auto& attribute : node.attribute())
      if (attribute.has_g()) add_used_names(attribute.g(), names);
  }
}

// What a decomposition asked for and then had no use of.
void drop_unused_initializers(onnx::GraphProto& graph,
                              const std::unordered_set<std::string>& used) {
  auto& all = *graph.mutable_initializer();
  all.erase(std::remove_if(all.begin(), all.end(),
                           [&](const auto& tensor) { return used.count(tensor.name()) == 0; }),
            all.end());
  for (onnx::NodeProto& node : *graph.mutable_node())
    for (auto& attribute : *node.mutable_attribute())
      if (attribute.has_g()) drop_unused_initializers(*attribute.mutable_g(), used);
}

void write_message(const onnx::ModelProto& proto, base::AtomicFile& file) {
  if (proto.ByteSizeLong() > static_cast<size_t>(std::numeric_limits<int>::max())) {
    fail(ErrorCode::kUnsupported,
         "[export.onnx] the model takes {} bytes; an ONNX message has at most 2 GB (let weights go "
         "to a file of their own)",
         proto.ByteSizeLong());
  }
  FileStream stream(file);
  google::protobuf::io::CopyingOutputStreamAdaptor adaptor(&stream);
  if (!proto.SerializeToZeroCopyStream(&adaptor) || !adaptor.Flush())
    fail(ErrorCode::kInternal, "[export.onnx] the message cannot be serialized");
}

// A second name for a file, or a copy where the file system has no such names.
void keep(const fs::path& file, const fs::path& kept) {
  std::error_code error;
  fs::create_hard_link(file, kept, error);
  if (error) fs::copy_file(file, kept, error);
  if (error) {
    fail(ErrorCode::kIo, "[export.onnx] '{}': cannot be kept while it is replaced: {}",
         file.string(), error.message());
  }
}

// Two files that belong together take their places: where the second cannot, the first's earlier
// file comes back.
void commit_both(base::AtomicFile& data, const fs::path& data_path, base::AtomicFile& model) {
  const fs::path kept = model.temporary_path().string() + ".data";
  const bool had = fs::exists(data_path);
  model.flush();
  if (had) keep(fs::canonical(data_path), kept);
  std::error_code ignored;
  bool replaced = false;
  try {
    data.commit();
    replaced = true;
    model.commit();
  } catch (...) {
    if (!replaced) {
      fs::remove(kept, ignored);
    } else if (had) {
      fs::rename(kept, fs::canonical(data_path, ignored), ignored);
    } else {
      fs::remove(data_path, ignored);
    }
    throw;
  }
  fs::remove(kept, ignored);
}

}  // namespace

OnnxReport write_onnx(const graph::Graph& graph, const fs::path& path, const OnnxOptions& options) {
  OnnxReport report = begin_report(graph, options);
  const fs::path data_path = path.string() + ".data";
  const bool external = weight_bytes_at_most(graph, options) > options.external_above_bytes;
  base::AtomicFile file(path);
  std::optional<base::AtomicFile> data;
  if (external) data.emplace(data_path);
  OnnxTensorStore store(data ? &*data : nullptr, data_path.filename().string());
  OnnxModel model{options, store, report, {}, {}, {}};
  onnx::ModelProto proto;
  OnnxScope(model, nullptr, graph, *proto.mutable_graph()).write({});
  std::unordered_set<std::string> used;
  add_used_names(proto.graph(), used);
  drop_unused_initializers(*proto.mutable_graph(), used);
  set_head(proto, model);
  write_message(proto, file);
  if (!data || data->size_bytes() == 0) {
    file.commit();
    return report;
  }
  report.external_bytes = data->size_bytes();
  commit_both(*data, data_path, file);
  return report;
}

}  // namespace packlight::deploy

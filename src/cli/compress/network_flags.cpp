#include "cli/compress/network_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>

#include "base/fail.h"
#include "cli/network_arrays.h"
#include "data/preprocess.h"
#include "io/hf_folder.h"
#include "io/network_package.h"

namespace packlight::cli {
namespace {

using import::OnnxNetwork;

// Other formats and figures carry no checksums: damage must not pass into them.
OnnxNetwork load_sound_package(const std::string& path) {
  const std::vector<std::string> damaged = io::NetworkPackage::open(path).damaged_blocks();
  if (!damaged.empty()) {
    fail(ErrorCode::kCorrupt, "[cli] '{}': the bytes of {} differ from their checksum", path,
         fmt::join(damaged, ", "));
  }
  return import::load_network_package(path);
}

// How pictures become a network's inputs, and who says so ("" where nobody does).
struct Steps {
  std::optional<data::Preprocess> preprocess;
  std::string origin;
};

Steps find_steps(const std::string& path, const std::string& given) {
  if (!given.empty()) return {data::read_preprocess(given), fmt::format("'{}'", given)};
  const bool package = io::detect_model_kind(path) == io::ModelKind::kNetworkPackage;
  if (package) {
    if (auto preprocess = preprocess_of(io::NetworkPackage::open(path)))
      return {preprocess, fmt::format("the package '{}'", path)};
  }
  if (auto preprocess = data::find_preprocess(path)) {
    return {preprocess,
            fmt::format("'{}'", std::filesystem::path(path).replace_extension(".yaml").string())};
  }
  if (package) return {};
  const auto metadata = import::read_onnx_metadata(path);
  const auto kept = metadata.find(kPreprocessKey);
  if (kept == metadata.end()) return {};
  return {data::preprocess_from_json(base::parse_json(kept->second, path), path),
          fmt::format("the metadata of '{}'", path)};
}

// Whether the only input of a network is pictures of one channel.
bool takes_gray(const graph::Graph& graph, const std::optional<data::Preprocess>& preprocess) {
  if (graph.inputs.size() != 1) return false;
  const auto& shape = graph.value(graph.inputs[0]).shape;
  const auto layout = preprocess.value_or(data::Preprocess()).layout;
  return shape && shape->size() == 4 && (*shape)[layout == data::Layout::kNchw ? 1 : 3].value == 1;
}

// Once for each way, however many sets are opened.
void tell_steps(const std::string& model, const Steps& steps, const data::PictureFormat& format) {
  static std::set<std::string> told;
  const std::string text =
      !steps.origin.empty()
          ? fmt::format("pictures become inputs as {} says", steps.origin)
          : fmt::format(
                "nothing says how pictures become inputs of '{}': {} / 255 in their own "
                "size (write {}, or give --preprocess)",
                model, format.black.size() == 1 ? "gray" : "RGB",
                std::filesystem::path(model).replace_extension(".yaml").string());
  if (told.insert(text).second) std::fprintf(stderr, "note: %s\n", text.c_str());
}

}  // namespace

OnnxNetwork load_network(const std::string& path) {
  const io::ModelKind kind = io::detect_model_kind(path);
  if (!io::is_network(kind)) {
    fail(ErrorCode::kUnsupported, "[cli] '{}' is a language model ({}), not a network", path,
         io::model_kind_name(kind));
  }
  if (kind == io::ModelKind::kNetworkPackage) return load_sound_package(path);
  OnnxNetwork network = import::load_onnx(path);
  for (const graph::ValueId id : network.graph.inputs) {
    const graph::Value& input = network.graph.value(id);
    if (input.shape && !input.shape->empty() && input.shape->front().value == 0) {
      fail(ErrorCode::kCorrupt, "[onnx] '{}': input '{}' is declared {}: a batch of zero", path,
           input.name, graph::to_string(*input.shape));
    }
  }
  for (const std::string& notice : network.notices)
    std::fprintf(stderr, "note: %s\n", notice.c_str());
  return network;
}

eval::NetworkSubject JudgedNetwork::make_subject(const std::string& path, int threads) const {
  if (io::detect_model_kind(path) == io::ModelKind::kNetworkPackage)
    return eval::package_subject(io::NetworkPackage::open(path), network_.graph, threads);
  return eval::graph_subject(network_.graph);
}

std::map<std::string, std::vector<int64_t>> parse_input_shapes(
    const std::vector<std::string>& texts, const graph::Graph& graph) {
  std::vector<std::string> names;
  for (const graph::ValueId id : graph.inputs) names.push_back(graph.value(id).name);
  return parse_input_shapes(texts, names, graph.name);
}

std::optional<data::Preprocess> preprocess_of_model(const std::string& path,
                                                    const std::string& given) {
  return find_steps(path, given).preprocess;
}

Json task_json(const eval::TaskReport& report) {
  Json json = {{"samples", report.samples}};
  const auto put = [&](const char* key, const std::optional<eval::Estimate>& e) {
    if (!e) return;
    json[key] = e->value;
    json[std::string(key) + "_se"] = e->standard_error;
  };
  put("top1", report.top1);
  put("top5", report.top5);
  put("sequence_accuracy", report.sequence_accuracy);
  put("mean_squared_error", report.mean_squared_error);
  put("agreement", report.agreement);
  put("same_side", report.same_side);
  if (report.output_difference) json["output_difference"] = *report.output_difference;
  json["seconds"] = report.seconds;
  return json;
}

void refuse_idle_flags(const CLI::App& verb, std::initializer_list<FlagRule> rules) {
  for (const auto& [flag, serves, rule] : rules) {
    if (!serves && verb.get_option(flag)->count() > 0)
      fail(ErrorCode::kInvalidArgument, "[{}] {} has no effect: {}", verb.get_name(), flag, rule);
  }
}

data::LoaderOptions loading_for(const graph::Graph& graph, const data::Dataset& dataset,
                                int64_t asked, int64_t usual) {
  data::LoaderOptions loading;
  bool free = false;
  for (const graph::ValueId id : graph.inputs) {
    const auto& shape = graph.value(id).shape;
    if (!shape || shape->empty()) continue;
    if (shape->front().known()) {
      loading.batch_size = std::max<int64_t>(1, shape->front().value);
      loading.drop_last = true;
      return loading;
    }
    free = free || std::any_of(shape->begin() + 1, shape->end(),
                               [](const graph::Dim& dim) { return !dim.known(); });
  }
  if (asked == 0) asked = free ? 1 : usual;
  loading.batch_size = std::min(asked, dataset.size());
  return loading;
}

std::shared_ptr<const data::Dataset> open_samples(const graph::Graph& graph,
                                                  const std::string& path, const std::string& model,
                                                  const std::string& preprocess,
                                                  std::optional<data::LabelKind> labels,
                                                  bool held_out) {
  data::DatasetOptions options;
  options.labels = labels;
  options.held_out = held_out;
  if (held_out && data::has_test_pair(path))
    std::fprintf(stderr, "note: of '%s' the test pair (t10k) is measured\n", path.c_str());
  const Steps steps = find_steps(model, preprocess);
  options.preprocess = steps.preprocess;
  options.ready_arrays = preprocess.empty();  // nobody said that these are pictures
  if (takes_gray(graph, steps.preprocess)) options.picture_channels = data::Channels::kGray;
  std::shared_ptr<const data::Dataset> dataset = data::open_dataset(path, options);
  const auto format = dataset->picture_format();
  if (format && preprocess.empty()) tell_steps(model, steps, *format);
  return dataset;
}

}  // namespace packlight::cli

#include "prune/prune_structured.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "base/fail.h"
#include "calib/token_stream.h"
#include "cli/compress/network_flags.h"
#include "cli/compress/network_output.h"
#include "cli/compress/output.h"
#include "cli/compress/prune.h"
#include "cli/peak_memory.h"
#include "io/hf_folder.h"
#include "prune/decoder_sizes.h"
#include "prune/prepare.h"

namespace packlight::cli {
namespace {

using graph::GroupKind;
using Clock = std::chrono::steady_clock::time_point;

constexpr int64_t kBatchTokens = 2048;  // run together
constexpr int64_t kGradientWindows = 32;
constexpr double kDrift = 0;            // undone, unless asked for

std::vector<GroupKind> kinds_of(const std::string& method) {
  if (method == "ffn") return {GroupKind::kChannels};
  if (method == "heads") return {GroupKind::kHeads};
  if (method == "kv") return {GroupKind::kKeyValueHeads};
  if (method == "width") return {GroupKind::kWidth};
  return {GroupKind::kChannels, GroupKind::kHeads};
}

prune::PruneTarget target_of(const PruneFlags& flags) {
  const int given = (flags.ratio ? 1 : 0) + (flags.target_params ? 1 : 0) +
                    (flags.target_bytes ? 1 : 0) + (flags.target_macs ? 1 : 0);
  if (given != 1)
    fail(ErrorCode::kInvalidArgument,
         "[prune] --method {} needs one of --ratio, --target-params, --target-bytes and "
         "--target-macs, not {}",
         flags.method, given);
  if (flags.ratio && !(*flags.ratio > 0 && *flags.ratio < 1))
    fail(ErrorCode::kInvalidArgument,
         "[prune] --ratio {}: the share that goes lies between 0 and 1", *flags.ratio);
  return {flags.ratio, flags.target_params, flags.target_bytes, flags.target_macs};
}

prune::StructuredOptions options_of(const PruneFlags& flags) {
  prune::StructuredOptions options;
  options.selection.target = target_of(flags);
  options.selection.spread =
      flags.spread == "uniform" ? prune::UnitSpread::kUniform : prune::UnitSpread::kGlobal;
  options.selection.least = flags.least;
  options.selection.multiple = flags.multiple;
  options.kinds = kinds_of(flags.method);
  options.protect = flags.protect;
  options.refit = flags.repair != "none";
  options.seed = static_cast<uint64_t>(flags.seed);
  options.refitting.damping = flags.damping;
  options.refitting.stream.max_ram_bytes = flags.max_ram_bytes;
  const auto folder = std::filesystem::path(flags.output).parent_path();
  if (!folder.empty()) options.refitting.stream.spill_folder = folder;
  return options;
}

Json cost_json(const graph::GraphCost& cost) {
  return {{"parameters", cost.parameters},
          {"bytes", cost.bytes},
          {"macs", cost.macs ? Json(*cost.macs) : Json()}};
}

Json report_json(const prune::StructuredReport& report) {
  Json json = {{"before", cost_json(report.before)},
               {"after", cost_json(report.after)},
               {"groups", Json::array()},
               {"layers", Json::array()}};
  for (const prune::GroupReport& group : report.groups) {
    json["groups"].push_back({{"name", group.name},
                              {"kind", graph::group_kind_name(group.kind)},
                              {"units", group.units},
                              {"kept", group.kept}});
  }
  for (const prune::RefitReport& layer : report.layers)
    json["layers"].push_back(
        {{"name", layer.layer}, {"error_before", layer.before}, {"error_after", layer.after}});
  return json;
}

double percent(int64_t after, int64_t before) {
  return before == 0 ? 0 : 100.0 * static_cast<double>(after) / static_cast<double>(before);
}

void print_report(const PruneFlags& flags, const prune::StructuredReport& report, double seconds) {
  fmt::print("{:<44} {:<9} {:>6} {:>6}\n", "group", "kind", "units", "kept");
  for (const prune::GroupReport& group : report.groups)
    fmt::print("{:<44} {:<9} {:>6} {:>6}\n", group.name, graph::group_kind_name(group.kind),
               group.units, group.kept);
  const std::string macs =
      report.before.macs && report.after.macs
          ? fmt::format(", {:.1f} % of {} multiply-accumulates",
                        percent(*report.after.macs, *report.before.macs), *report.before.macs)
          : "";
  fmt::print("{}: {:.1f} % of {} parameters{} left, {:.0f} s, peak memory {:.0f} MB\n",
             flags.output, percent(report.after.parameters, report.before.parameters),
             report.before.parameters, macs, seconds, peak_rss_mb());
}

// The sizes of one sample: the first of the data, or what the network says of all but the batch.
std::map<std::string, std::vector<int64_t>> usual_shapes(const graph::Graph& graph,
                                                         const std::vector<exec::Values>& batches) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const graph::ValueId id : graph.inputs) {
    const graph::Value& value = graph.value(id);
    if (!value.shape || value.shape->empty()) continue;
    std::vector<int64_t> shape;
    if (!batches.empty()) {
      shape = batches[0].at(id).sizes().vec();
    } else {
      for (const graph::Dim& dim : *value.shape) shape.push_back(dim.known() ? dim.value : -1);
    }
    if (!(*value.shape)[0].known()) shape[0] = 1;
    if (std::count(shape.begin(), shape.end(), -1) == 0) shapes[value.name] = shape;
  }
  return shapes;
}

void check_data(const PruneFlags& flags, const prune::UnitCriterion& criterion,
                const prune::StructuredOptions& options, bool none, const char* flag) {
  const bool needed = criterion.needs().any() || options.refit;
  if (needed == !none) return;
  if (needed) {
    fail(ErrorCode::kInvalidArgument,
         "[prune] '{}': --criterion {}{} looks at samples: {} is needed (not for l1, l2, bn and "
         "random with --repair none)",
         flags.model, flags.criterion, options.refit ? " with --repair obs" : "", flag);
  }
  fail(ErrorCode::kInvalidArgument,
       "[prune] {} is without effect: --criterion {} with --repair none looks at the weights alone",
       flag, flags.criterion);
}

// Reports what was done once it is written.
template <class Write>
void report(const PruneFlags& flags, Clock start, const prune::StructuredReport& done,
            const Write& write) {
  write();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!flags.json) return print_report(flags, done, seconds);
  Json json = report_json(done);
  json["output"] = flags.output;
  json["seconds"] = seconds;
  json["peak_rss_mb"] = peak_rss_mb();
  fmt::print("{}\n", json.dump(2));
}

void prune_network(const PruneFlags& flags) {
  const Clock start = std::chrono::steady_clock::now();
  prune::StructuredOptions options = options_of(flags);
  options.refitting.undo_drift = flags.undo_drift.value_or(1);
  const auto criterion =
      prune::make_unit_criterion(flags.criterion, static_cast<uint64_t>(flags.seed));
  const bool as_package = is_package_name(flags.output, "prune"),
             needs_data = criterion->needs().any() || options.refit;
  import::OnnxNetwork network = load_network(flags.model);
  prune::simplify_for_pruning(network.graph);
  std::vector<exec::Values> batches;
  check_data(flags, *criterion, options, flags.calibration.data.empty(), "--data");
  if (needs_data) {
    const CalibrationData data(network.graph, flags.model, flags.calibration,
                               static_cast<uint64_t>(flags.seed));
    batches = calib::values_of(network.graph, data.batches(), data.samples());
  }
  options.input_shapes = flags.input_shapes.empty()
                             ? usual_shapes(network.graph, batches)
                             : parse_input_shapes(flags.input_shapes, network.graph);
  report(flags, start, prune::prune_structured(network.graph, *criterion, batches, options), [&] {
    NetworkOutput output{flags.output, flags.model, as_package, Json(), flags.opset};
    output.preprocess = flags.calibration.preprocess;
    write_network(network, output);
  });
}

void prune_language_model_units(const PruneFlags& flags) {
  const Clock start = std::chrono::steady_clock::now();
  check_language_model_output(flags.output, "prune");
  prune::StructuredOptions options = options_of(flags);
  options.is_language_model = true;
  options.gradient_samples = kGradientWindows;
  options.refitting.undo_drift = flags.undo_drift.value_or(kDrift);
  const auto criterion =
      prune::make_unit_criterion(flags.criterion, static_cast<uint64_t>(flags.seed));
  check_data(flags, *criterion, options, flags.calib.empty(), "--calib");
  import::LanguageModel model = import::load_language_model(flags.model);
  std::vector<exec::Values> batches;
  if (criterion->needs().any() || options.refit)
    batches = calib::token_values(model.graph, pruning_tokens(model, flags), kBatchTokens);
  for (const graph::ValueId id : model.graph.inputs)
    options.input_shapes[model.graph.value(id).name] = {1, 1};
  report(flags, start, prune::prune_structured(model.graph, *criterion, batches, options), [&] {
    prune::follow_weights(model);
    write_language_model(model, flags.output);
  });
}

}  // namespace

bool prunes_units(const PruneFlags& flags) {
  static const std::set<std::string> kMethods = {"structured", "heads", "ffn", "kv", "width"};
  return kMethods.contains(flags.method);
}

void prune_units(const PruneFlags& flags) {
  return io::is_network(io::detect_model_kind(flags.model)) ? prune_network(flags)
                                                            : prune_language_model_units(flags);
}

}  // namespace packlight::cli

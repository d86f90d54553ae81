#include "cli/compress/prune_structured.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "base/fail.h"
#include "cli/compress/network_flags.h"
#include "cli/compress/network_output.h"
#include "cli/compress/output.h"
#include "cli/peak_memory.h"
#include "prune/prepare.h"
#include "prune/prune_structured.h"

namespace packlight::cli {
namespace {

using graph::GroupKind;

std::vector<GroupKind> kinds_of(const std::string& method) {
  if (method == "ffn") return {GroupKind::kChannels};
  if (method == "heads") return {GroupKind::kHeads};
  if (method == "kv") return {GroupKind::kKeyValueHeads};
  if (method == "width") return {GroupKind::kWidth};
  return {GroupKind::kChannels, GroupKind::kHeads};
}

prune::PruneTarget target_of(const StructuredFlags& flags) {
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

prune::StructuredOptions options_of(const StructuredFlags& flags) {
  prune::StructuredOptions options;
  options.selection.target = target_of(flags);
  options.selection.spread =
      flags.spread == "uniform" ? prune::UnitSpread::kUniform : prune::UnitSpread::kGlobal;
  options.selection.least = flags.least;
  options.selection.multiple = flags.multiple;
  options.kinds = kinds_of(flags.method);
  options.protect = flags.protect;
  options.refit = flags.repair == "obs";
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

void print_report(const StructuredFlags& flags, const prune::StructuredReport& report,
                  double seconds) {
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

}  // namespace

void prune_network_file(const StructuredFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  prune::StructuredOptions options = options_of(flags);
  const bool as_package = is_package_name(flags.output, "prune");
  check_output(flags.model, flags.output);
  import::OnnxNetwork network = load_network(flags.model);
  prune::simplify_for_pruning(network.graph);
  if (!flags.input_shapes.empty())
    options.input_shapes = parse_input_shapes(flags.input_shapes, network.graph);
  const auto criterion =
      prune::make_unit_criterion(flags.criterion, static_cast<uint64_t>(flags.seed));
  std::vector<exec::Values> batches;
  if (criterion->needs_calibration() || options.refit) {
    if (flags.calibration.data.empty()) {
      fail(ErrorCode::kInvalidArgument,
           "[prune] '{}': --criterion {}{} looks at samples: --data is needed (l1, l2, bn and "
           "random with --repair none are not)",
           flags.model, flags.criterion, options.refit ? " with --repair obs" : "");
    }
    const CalibrationData data(network.graph, flags.model, flags.calibration,
                               static_cast<uint64_t>(flags.seed));
    batches = calib::values_of(network.graph, data.batches(), data.samples());
  } else if (!flags.calibration.data.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[prune] --data is without effect: --criterion {} with --repair none looks at the weights "
         "alone",
         flags.criterion);
  }
  if (!batches.empty() && options.input_shapes.empty()) {
    for (const auto& [id, tensor] : batches[0]) {
      options.input_shapes[network.graph.value(id).name] = tensor.sizes().vec();
      options.input_shapes[network.graph.value(id).name][0] = 1;
    }
  }
  const prune::StructuredReport report =
      prune::prune_structured(network.graph, *criterion, batches, options);
  NetworkOutput output{flags.output, flags.model, as_package, Json(), flags.opset};
  output.preprocess = flags.calibration.preprocess;
  write_network(network, output);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!flags.json) return print_report(flags, report, seconds);
  Json json = report_json(report);
  json["output"] = flags.output;
  json["seconds"] = seconds;
  json["peak_rss_mb"] = peak_rss_mb();
  fmt::print("{}\n", json.dump(2));
}

}  // namespace packlight::cli

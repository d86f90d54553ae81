#include "quantize/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "base/progress.h"
#include "quantize/compare_layers.h"

namespace packlight::quantize {
namespace {

// A pattern that matches this name alone.
std::string literal(std::string_view name) {
  std::string pattern;
  for (const char c : name) {
    if (c == '*' || c == '?' || c == '[' || c == ']' || c == '\\') pattern += '\\';
    pattern += c;
  }
  return pattern;
}

void normalise(std::vector<LayerSensitivity>& table) {
  double least = std::numeric_limits<double>::infinity(), most = -least;
  for (const LayerSensitivity& row : table) {
    if (!std::isfinite(row.output_sqnr_db)) continue;
    least = std::min(least, row.output_sqnr_db);
    most = std::max(most, row.output_sqnr_db);
  }
  for (LayerSensitivity& row : table) {
    const bool counts = std::isfinite(row.output_sqnr_db) && most > least;
    row.sensitivity = counts ? (most - row.output_sqnr_db) / (most - least) : 0;
    if (row.output_sqnr_db == -std::numeric_limits<double>::infinity()) row.sensitivity = 1;
  }
}

}  // namespace

std::vector<LayerSensitivity> measure_sensitivity(
    const graph::Graph& graph, const NetworkOptions& options, const calib::Batches& batches,
    const std::function<double(const graph::Graph&)>& measure) {
  const std::vector<NetworkLayer> layers = find_layers(graph, options.precision);
  base::Progress progress("Quantizing layer by layer", layers.size());
  progress.set_quiet(options.quiet);
  std::vector<LayerSensitivity> table;
  for (const NetworkLayer& layer : layers) {
    NetworkOptions alone = options;
    alone.table.clear();
    alone.edge.reset();
    alone.overrides = {{"*", parse_precision("float", {})},
                       {literal(layer.name), options.precision}};
    alone.report_samples = 0;
    alone.quiet = true;
    graph::Graph quantized = graph;
    quantize_network(quantized, alone, &batches);
    LayerSensitivity row;
    row.layer = layer.name;
    row.output_sqnr_db = output_signal_to_noise(graph, quantized, batches, options.report_samples);
    if (measure) row.metric_change = measure(quantized);
    table.push_back(std::move(row));
    progress.advance();
  }
  normalise(table);
  return table;
}

Json sensitivity_to_json(const std::vector<LayerSensitivity>& table) {
  Json json = Json::array();
  for (const LayerSensitivity& row : table) {
    Json entry = {{"layer", row.layer}, {"sensitivity", row.sensitivity}};
    if (std::isfinite(row.output_sqnr_db)) entry["output_sqnr_db"] = row.output_sqnr_db;
    if (row.metric_change) entry["metric_change"] = *row.metric_change;
    json.push_back(std::move(entry));
  }
  return json;
}

std::vector<LayerSensitivity> sensitivity_from_json(const Json& json, std::string_view origin) {
  const auto corrupt = [&](std::string_view rule) {
    fail(ErrorCode::kCorrupt, "[quantize] '{}': {}", origin, rule);
  };
  if (!json.is_object() || !json.contains("layers") || !json["layers"].is_array())
    corrupt("no table of sensitivities: it must hold a list 'layers'");
  std::vector<LayerSensitivity> table;
  for (const Json& entry : json["layers"]) {
    if (!entry.is_object() || !entry.contains("layer") || !entry["layer"].is_string() ||
        !entry.contains("sensitivity") || !entry["sensitivity"].is_number())
      corrupt("an entry of 'layers' without a text 'layer' and a number 'sensitivity'");
    LayerSensitivity row;
    row.layer = entry["layer"].get<std::string>();
    row.sensitivity = entry["sensitivity"].get<double>();
    table.push_back(std::move(row));
  }
  return table;
}

std::vector<PrecisionRule> precision_rules(const std::vector<LayerSensitivity>& table,
                                           const Precision& base,
                                           const SensitivityThresholds& thresholds) {
  std::vector<PrecisionRule> rules;
  for (const LayerSensitivity& row : table) {
    const char* precision = row.sensitivity >= thresholds.float16 ? "f16"
                            : row.sensitivity >= thresholds.int8  ? "int8"
                                                                  : "int4";
    rules.push_back({literal(row.layer), parse_precision(precision, base)});
  }
  return rules;
}

}  // namespace packlight::quantize

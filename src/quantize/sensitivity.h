#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "quantize/quantize_network.h"

namespace packlight::quantize {

// What quantizing one layer alone costs, all others in float.
struct LayerSensitivity {
  std::string layer;
  double output_sqnr_db = 0;            // the least of the network's outputs
  std::optional<double> metric_change;  // of a task's metric; negative: worse
  double sensitivity = 0;  // normalised: 0 for the layer that costs least, 1 for the most
};

// For each layer of the network: the network with that layer alone quantized as `options` say
// (edge and overrides left out), and its signal-to-noise ratio against the float network over
// options.report_samples samples; `measure`, when given, looks at that network and returns the
// change of a metric. sensitivity = (most - sqnr) / (most - least) over the layers, infinite ratios
// left out of most and least: 0 for infinity, 1 for -infinity. Cost: a calibration and a comparison
// a layer.
std::vector<LayerSensitivity> measure_sensitivity(
    const graph::Graph& graph, const NetworkOptions& options, const calib::Batches& batches,
    const std::function<double(const graph::Graph&)>& measure = nullptr);

Json sensitivity_to_json(const std::vector<LayerSensitivity>& table);
// Errors: Corrupt naming `origin` and what is missing.
std::vector<LayerSensitivity> sensitivity_from_json(const Json& json, std::string_view origin);

// From which normalised sensitivity on a layer gets how many bits; below both, INT4 weights.
struct SensitivityThresholds {
  double float16 = 0.8, int8 = 0.5;
};
// One rule a layer: f16, int8 or int4, activations as `base`.
std::vector<PrecisionRule> precision_rules(const std::vector<LayerSensitivity>& table,
                                           const Precision& base,
                                           const SensitivityThresholds& thresholds = {});

}  // namespace packlight::quantize

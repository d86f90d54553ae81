#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "calib/activation_ranges.h"
#include "graph/graph.h"
#include "quantize/activation_plan.h"
#include "quantize/adaround.h"
#include "quantize/correct_layers.h"
#include "quantize/network_layers.h"
#include "quantize/qat.h"
#include "quantize/smooth.h"

namespace packlight::quantize {

// Quantization of a network, after training or in it.
struct NetworkOptions {
  Precision precision;                   // of all layers that nothing else is said of
  std::vector<PrecisionRule> table;      // of layers by sensitivity (precision_rules), then
  std::optional<Precision> edge;         // of first and last layers (plan_precisions)
  std::vector<PrecisionRule> overrides;  // then these, the last match wins
  bool symmetric_activations = true;     // I8 codes around 0; else U8 with a zero point
  ActivationForm form = ActivationForm::kInputs;
  bool per_tensor = false;  // one scale a weight, else one an output channel
  ScaleMethod scales = ScaleMethod::kSearch;
  calib::ObserverKind observer = calib::ObserverKind::kMinMax;
  calib::ObserverOptions observing;
  bool equalize = false;                // equalize.h, first
  std::optional<SmoothOptions> smooth;  // smooth.h, after it
  bool adaround = false;                // reconstruct_layers.h
  bool bias_correct = false;            // bias_correction.h, last
  AdaRoundOptions rounding;
  std::optional<Budget> correction;  // correct_layers.h, after AdaRound, instead of bias_correct
  bool dynamic = false;              // insert_dynamic.h: activations are quantized as they come
  std::optional<QatOptions> qat;     // training in codes (qat.h), in the place of the two above
  int64_t bias_samples = 128;        // calibration samples that bias correction looks at
  int64_t report_samples = 64;       // that layer outputs are compared on; 0: none
  bool quiet = false;                // no progress bar
};
// What decides the result, for the file's metadata.
Json options_to_json(const NetworkOptions& options);

struct NetworkLayerReport {
  std::string name, op, weight;  // weight: "" for a product of activations
  Precision precision;
  double least_scale = 0, largest_scale = 0;  // of the weight's channels
  double weight_error = 0;                    // sum (w - w')^2 / sum w^2
  std::optional<double> rounding_gain;        // AdaRound: error over that of the nearest codes
  std::optional<double> output_sqnr_db;       // signal_to_noise() of its output
  std::optional<int64_t> macs;  // of one calibration batch; absent while a shape is open
};
struct ActivationReport {
  std::string value;
  int bits = 0, group = 0;  // values of one group share the rest
  calib::Range range;
  calib::CodeParameters codes;
};
struct NetworkReport {
  std::vector<NetworkLayerReport> layers;
  std::vector<ActivationReport> activations;
  std::optional<double> output_sqnr_db;  // the least signal_to_noise() of the network's outputs
  std::optional<double> int8_mac_share;  // of the multiply-accumulates whose both factors have at
                                         // most 8 bits
  int equalized_pairs = 0;
  std::optional<SmoothReport> smoothed;
  std::optional<QatReport> training;
  std::optional<CorrectionReport> correction;
  std::vector<std::string> notices;
};
Json report_to_json(const NetworkReport& report);
// "w2a8", or where layers differ how many have which: "w2a8 (3 layers), float (2)".
std::string precisions_of(const NetworkReport& report);
// Puts what repairs up to a budget made of the options into their JSON: `precision` is what all
// layers have in the end, or "mixed" beside `layers` with that of each; `adaround` and
// `bias_correct` whether any layer owes its codes or bias to it; `repairs` those in force, by
// layer. Leaves it where there was no budget.
void add_repairs(const NetworkReport& report, Json& options);

// Rewrites the network into one that computes in codes (insert_codes.h). It should be simplified
// before, with attention left as matrix products (SimplifyOptions::fuse_attention).
// `batches`: needed when activations are quantized or an option looks at them; may be null
// otherwise (then nothing is compared for the report either).
// `training`: samples for options.qat; needed then.
// Errors: InvalidArgument for missing or zero samples, a NaN in calibration, a weight that is not
// finite, a pattern that matches nothing, options out of range, layers of one region that differ in
// activation bits, a budget with regions, a weight beyond F16 that is to be one; Unsupported for a
// network that is quantized already. The graph is unchanged then.
NetworkReport quantize_network(graph::Graph& graph, const NetworkOptions& options,
                               const calib::Batches* batches,
                               const TrainingData* training = nullptr);

}  // namespace packlight::quantize

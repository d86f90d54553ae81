#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "calib/activation_ranges.h"
#include "graph/graph.h"
#include "quantize/adaround.h"
#include "quantize/insert_codes.h"
#include "quantize/network_layers.h"

namespace packlight::quantize {

// What is done to a layer, from the cheapest on.
enum class Repair : uint8_t {
  kBias,      // the mean error of its outputs is taken off its bias (bias_correction.h)
  kScale,     // scales of least squared error instead of those it has (ScaleMethod::kSearch)
  kAdaRound,  // reconstruct_layers.h
  kInt8,      // weights of 8 bits
  kFloat,     // weights and activations as they were
};
std::string_view repair_name(Repair repair);

// What a network must reach; larger is better.
struct Budget {
  double goal = 0;
  // Of a quantized network; null: the least SQNR of its outputs over `samples`, in dB.
  std::function<double(const graph::Graph&)> measure;
  int64_t samples = 64;        // that layers are compared on
  int64_t bias_samples = 128;  // that biases are corrected on
};

struct RepairReport {
  std::string layer;
  Repair repair;
  double before = 0, after = 0;  // of the budget's measure
  bool kept = false;             // one of the first three that brought nothing is undone
};
struct CorrectionReport {
  double goal = 0, before = 0, after = 0;
  std::vector<RepairReport> repairs;
  // By layer, what is in force in the end: kBias, and the last repair that gave it its weights.
  std::map<std::string, std::vector<Repair>> standing;
  bool met() const { return after >= goal; }
};

// Repairs the layers of a quantized network until it meets the budget: each kind of repair in turn
// goes to all layers, those first that add most error, and the measure is taken after each. A layer
// adds the noise-to-signal ratio of its output less that of its inputs. Bias, scales and AdaRound
// are undone where the measure does not grow; more precision (kInt8, kFloat) always stays, since
// other layers' repairs may have made up for what it mends. After every repair all biases that are
// corrected are corrected anew; a layer in float has its own again. Changes `quantized`, `weights` (a layer in float has none) and the layers'
// precisions. With every layer in float (those stored in F16, too) the networks are the same, so
// that any budget of the default measure is met in the end.
// Cost: a repair takes a measure, and a run of both networks over bias_samples, beside its own.
CorrectionReport correct_layers(const graph::Graph& original, graph::Graph& quantized,
                                std::vector<NetworkLayer>& layers,
                                const std::vector<InsertedLayer>& inserted,
                                std::map<size_t, WeightCodes>& weights,
                                const calib::Batches& batches, const AdaRoundOptions& rounding,
                                const Budget& budget, bool quiet);

}  // namespace packlight::quantize

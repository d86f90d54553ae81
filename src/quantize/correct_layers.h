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
  bool kept = false;             // one that made the measure worse is undone
};
struct CorrectionReport {
  double goal = 0, before = 0, after = 0;
  std::vector<RepairReport> repairs;
  bool met() const { return after >= goal; }
};

// Repairs the layers of a quantized network until it meets the budget: each kind of repair in turn
// goes to all layers, those first that add most error, and the measure is taken after each. A layer
// adds the noise-to-signal ratio of its output less that of its inputs. Codes that change have
// their bias corrected again. Changes `quantized`, `weights` (a layer in float has none) and the
// layers' precisions. With every layer in float the networks are the same, so that any budget of
// the default measure is met in the end. Cost: a measure a repair, beside the repair's.
CorrectionReport correct_layers(const graph::Graph& original, graph::Graph& quantized,
                                std::vector<NetworkLayer>& layers,
                                const std::vector<InsertedLayer>& inserted,
                                std::map<size_t, WeightCodes>& weights,
                                const calib::Batches& batches, const AdaRoundOptions& rounding,
                                const Budget& budget, bool quiet);

}  // namespace packlight::quantize

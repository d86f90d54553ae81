#include "quantize/correct_layers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <unordered_map>

#include "base/fail.h"
#include "base/progress.h"
#include "exec/executor.h"
#include "quantize/bias_correction.h"
#include "quantize/compare_layers.h"
#include "quantize/reconstruct_layers.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

constexpr Repair kLadder[] = {Repair::kBias, Repair::kScale, Repair::kAdaRound, Repair::kInt8,
                              Repair::kFloat};

double noise_to_signal(double sqnr_db) { return std::pow(10, -sqnr_db / 10); }

class Corrector {
 public:
  Corrector(const Graph& original, Graph& quantized, std::vector<NetworkLayer>& layers,
            const std::vector<InsertedLayer>& inserted, std::map<size_t, WeightCodes>& weights,
            const calib::Batches& batches, const AdaRoundOptions& rounding, const Budget& budget)
      : original_(original),
        uncorrected_(quantized),
        quantized_(quantized),
        layers_(layers),
        inserted_(inserted),
        weights_(weights),
        batches_(batches),
        rounding_(rounding),
        budget_(budget) {
    for (const InsertedLayer& layer : inserted)
      if (!layer.codes.empty()) ++owners_[layer.codes];
  }

  CorrectionReport run(bool quiet) {
    CorrectionReport report;
    report.goal = budget_.goal;
    report.before = report.after = measure();
    base::Progress progress("Repairing layers", layers_.size() * std::size(kLadder));
    progress.set_quiet(quiet);
    for (const Repair repair : kLadder) {
      std::set<size_t> left;
      for (size_t i = 0; i < layers_.size(); ++i)
        if (applies(repair, i)) left.insert(i);
      while (!left.empty() && !report.met()) {
        const size_t worst = worst_of(left);
        left.erase(worst);
        report.repairs.push_back(attempt(repair, worst, report.after));
        if (report.repairs.back().kept) report.after = report.repairs.back().after;
        progress.advance();
      }
    }
    report.standing = standing();
    return report;
  }

 private:
  double measure() const {
    if (budget_.measure) return budget_.measure(quantized_);
    return output_signal_to_noise(original_, quantized_, batches_, budget_.samples);
  }

  // A weight that layers share is repaired for all of them, or not: only by more precision.
  bool applies(Repair repair, size_t index) const {
    const NetworkLayer& layer = layers_[index];
    const bool codes = weights_.count(index) != 0;
    const bool own = codes && owners_.at(inserted_[index].codes) == 1;
    switch (repair) {
      case Repair::kBias:
        return codes && layer.weight_input == size_t{1};
      case Repair::kScale:
      case Repair::kAdaRound:
        return own;
      case Repair::kInt8:
        return own && layer.precision.weight_bits < 8;
      case Repair::kFloat:
        return !layer.precision.is_float() || layer.precision.float16_weights;
    }
    return false;
  }

  size_t worst_of(const std::set<size_t>& candidates) const {
    std::vector<std::string> names;
    for (const size_t i : candidates) {
      const Node& node = original_.node(layers_[i].node);
      names.push_back(original_.value(node.outputs[0]).name);
      for (const size_t input : layers_[i].activation_inputs)
        names.push_back(original_.value(node.inputs[input]).name);
    }
    const auto ratios = signal_to_noise(original_, quantized_, names, batches_, budget_.samples);
    const auto noise = [&](ValueId id) {
      const auto it = ratios.find(original_.value(id).name);
      return it == ratios.end() ? 0.0 : noise_to_signal(it->second);
    };
    size_t worst = *candidates.begin();
    double most = -std::numeric_limits<double>::infinity();
    for (const size_t i : candidates) {
      const Node& node = original_.node(layers_[i].node);
      double added = noise(node.outputs[0]);
      for (const size_t input : layers_[i].activation_inputs) added -= noise(node.inputs[input]);
      if (added > most) most = added, worst = i;
    }
    return worst;
  }

  // More precision stays although the measure may fall by it at first: what other layers do was
  // fitted to the errors that are gone, and no other way ends at the float network.
  RepairReport attempt(Repair repair, size_t index, double before) {
    const Graph kept_graph = quantized_, kept_uncorrected = uncorrected_;
    const std::map<size_t, WeightCodes> kept_weights = weights_;
    const std::set<size_t> kept_biases = biases_;
    RepairReport report{layers_[index].name, repair, before, before, false};
    apply(repair, index);
    report.after = measure();
    report.kept = report.after > before || repair >= Repair::kInt8;
    if (report.kept) {
      if (repair != Repair::kBias) codes_by_[index] = repair;
      return report;
    }
    quantized_ = kept_graph;
    uncorrected_ = kept_uncorrected;
    weights_ = kept_weights;
    biases_ = kept_biases;
    return report;
  }

  void apply(Repair repair, size_t index) {
    switch (repair) {
      case Repair::kBias:
        break;
      case Repair::kScale:
        round(index, weights_.at(index).bits);
        break;
      case Repair::kAdaRound:
        learn_rounding(index);
        break;
      case Repair::kInt8:
        layers_[index].precision.weight_bits = 8;
        round(index, 8);
        break;
      case Repair::kFloat:
        restore_float(index);
    }
    if (repair == Repair::kBias) biases_.insert(index);
    if (repair == Repair::kFloat) biases_.erase(index);
    correct();
  }

  // The quantized network anew from the one without corrections: those of layers behind a change
  // were fitted to what it took away, too.
  void correct() {
    quantized_ = uncorrected_;
    std::vector<NetworkLayer> corrected;
    for (const size_t i : biases_) corrected.push_back(layers_[i]);
    if (!corrected.empty())
      correct_biases(original_, quantized_, corrected, batches_, budget_.bias_samples, true);
  }

  std::map<std::string, std::vector<Repair>> standing() const {
    std::map<std::string, std::vector<Repair>> repairs;
    for (const size_t i : biases_) repairs[layers_[i].name].push_back(Repair::kBias);
    for (const auto& [i, repair] : codes_by_) repairs[layers_[i].name].push_back(repair);
    return repairs;
  }

  at::Tensor weight_of(size_t index) const {
    return exec::dense_weight(*original_.value(layers_[index].weight(original_)).weight);
  }

  void set(const std::string& name, const at::Tensor& tensor) {
    uncorrected_.value(*uncorrected_.find(name)).weight = tensor;
  }

  void round(size_t index, int bits) {
    WeightCodes& codes = weights_.at(index);
    codes = round_weight(weight_of(index), codes.axis,
                         {bits, codes.scales.dim() == 0, ScaleMethod::kSearch});
    set(inserted_[index].codes, codes.codes);
    set(inserted_[index].scales, codes.scales);
    if (bits < 8) return;
    const ValueId id = *uncorrected_.find(inserted_[index].codes);
    for (NodeId node = 0; node < static_cast<NodeId>(uncorrected_.nodes().size()); ++node) {
      const std::vector<ValueId>& inputs = uncorrected_.node(node).inputs;
      if (!inputs.empty() && inputs[0] == id) uncorrected_.node(node).attributes.erase("bits");
    }
  }

  void learn_rounding(size_t index) {
    std::map<size_t, WeightCodes> one = {{index, weights_.at(index)}};
    reconstruct_layers(original_, quantized_, layers_, inserted_, one, batches_, rounding_, true);
    weights_.at(index) = one.at(index);
    set(inserted_[index].codes, one.at(index).codes);
  }

  // The layer takes its float weight, and its inputs from before their codes.
  void restore_float(size_t index) {
    const NetworkLayer& layer = layers_[index];
    const Node& node_before = original_.node(layer.node);
    NodeId id = -1;
    for (NodeId i = 0; i < static_cast<NodeId>(uncorrected_.nodes().size()); ++i)
      if (uncorrected_.node(i).name == layer.name) id = i;
    if (id < 0) fail(ErrorCode::kInternal, "[quantize] no node is named '{}'", layer.name);
    for (const size_t input : layer.activation_inputs) {
      const auto before = uncorrected_.find(original_.value(node_before.inputs[input]).name);
      if (before) uncorrected_.node(id).inputs[input] = *before;
    }
    if (layer.weight_input) {
      const std::string& name = original_.value(layer.weight(original_)).name;
      const auto there = uncorrected_.find(name);
      uncorrected_.node(id).inputs[*layer.weight_input] =
          there ? *there : uncorrected_.add_weight(name, weight_of(index));
    }
    uncorrected_.remove_unused();
    graph::infer_shapes(uncorrected_);
    weights_.erase(index);
    layers_[index].precision = {0, 0, false};
  }

  const Graph& original_;
  Graph uncorrected_;  // the quantized network before anything was taken off biases
  Graph& quantized_;
  std::vector<NetworkLayer>& layers_;
  const std::vector<InsertedLayer>& inserted_;
  std::map<size_t, WeightCodes>& weights_;
  const calib::Batches& batches_;
  const AdaRoundOptions& rounding_;
  const Budget& budget_;
  std::unordered_map<std::string, int> owners_;  // of codes
  std::set<size_t> biases_;                      // layers whose bias is corrected
  std::map<size_t, Repair> codes_by_;            // what gave a layer its codes, the last kept
};

}  // namespace

std::string_view repair_name(Repair repair) {
  switch (repair) {
    case Repair::kBias:
      return "bias";
    case Repair::kScale:
      return "scale";
    case Repair::kAdaRound:
      return "adaround";
    case Repair::kInt8:
      return "int8";
    case Repair::kFloat:
      return "float";
  }
  return "";
}

CorrectionReport correct_layers(const Graph& original, Graph& quantized,
                                std::vector<NetworkLayer>& layers,
                                const std::vector<InsertedLayer>& inserted,
                                std::map<size_t, WeightCodes>& weights,
                                const calib::Batches& batches, const AdaRoundOptions& rounding,
                                const Budget& budget, bool quiet) {
  return Corrector(original, quantized, layers, inserted, weights, batches, rounding, budget)
      .run(quiet);
}

}  // namespace packlight::quantize

#include "quantize/quantize_network.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "base/fail.h"
#include "exec/dense_weight.h"
#include "exec/executor.h"
#include "graph/cost.h"
#include "quantize/bias_correction.h"
#include "quantize/compare_layers.h"
#include "quantize/equalize.h"
#include "quantize/insert_codes.h"
#include "quantize/insert_dynamic.h"
#include "quantize/reconstruct_layers.h"
#include "quantize/weight_codes.h"

namespace packlight::quantize {
namespace {

using graph::Graph;

// Of the weights' bytes: less than this outside of layers goes without a notice.
constexpr double kNotedShare = 0.01;

class NetworkQuantizer {
 public:
  NetworkQuantizer(const Graph& graph, const NetworkOptions& options, const calib::Batches* batches,
                   const TrainingData* training)
      : original_(graph), options_(options), batches_(batches), training_(training) {}

  NetworkReport run(Graph& result) {
    exec::check_finite(original_, 0, static_cast<graph::NodeId>(original_.nodes().size()));
    if (options_.equalize) report_.equalized_pairs = equalize(original_).pairs;
    if (options_.smooth) smooth_channels();
    layers_ = find_layers(original_, options_.precision);
    note_other_weights();
    plan_precisions(original_, layers_, std::nullopt, options_.table);
    plan_precisions(original_, layers_, options_.edge, options_.overrides);
    if (options_.dynamic) {
      quantize_as_they_come(result);
      return std::move(report_);
    }
    plan_ = plan_activations(original_, layers_, options_.form);
    check_samples();
    check_regions();
    calibrate();
    round_weights();
    result = original_;
    inserted_ = insert_codes(result, layers_, plan_, groups_, weights_);
    if (options_.adaround) reconstruct(result);
    if (options_.qat) train(result);
    if (options_.correction)
      report_.correction =
          correct_layers(original_, result, layers_, inserted_.layers, weights_, *batches_,
                         options_.rounding, *options_.correction, options_.quiet);
    if (options_.bias_correct)
      correct_biases(original_, result, layers_, *batches_, options_.bias_samples, options_.quiet);
    report_layers(result);
    return std::move(report_);
  }

 private:
  // Recurrent layers, embeddings and the like keep theirs.
  void note_other_weights() {
    std::set<graph::ValueId> of_layers;
    for (const NetworkLayer& layer : layers_) of_layers.insert(layer.weight(original_));
    double all = 0, others = 0;
    for (graph::ValueId id = 0; id < static_cast<graph::ValueId>(original_.values().size()); ++id) {
      const auto& weight = original_.value(id).weight;
      const auto* dense = weight ? std::get_if<at::Tensor>(&*weight) : nullptr;
      if (dense == nullptr || dense->dim() < 2 || !at::isFloatingType(dense->scalar_type()))
        continue;
      all += static_cast<double>(dense->nbytes());
      if (of_layers.count(id) == 0) others += static_cast<double>(dense->nbytes());
    }
    if (others < kNotedShare * all || others == 0) return;
    report_.notices.push_back(fmt::format(
        "{:.1f} % of the weights' bytes stay as they are: they belong to no Conv, ConvTranspose, "
        "MatMul or Gemm",
        100 * others / all));
  }

  void check_samples() const {
    if (options_.qat && (options_.adaround || options_.bias_correct || training_ == nullptr)) {
      fail(ErrorCode::kInvalidArgument,
           "[quantize] '{}': training in codes needs samples to train on, and neither AdaRound nor "
           "bias correction goes with it: it finds codes and biases itself",
           original_.name);
    }
    if (options_.correction && (options_.qat || options_.bias_correct)) {
      fail(
          ErrorCode::kInvalidArgument,
          "[quantize] '{}': repairs up to a budget go neither with training in codes nor with bias "
          "correction, which is one of them",
          original_.name);
    }
    const bool needed = !plan_.pairs.empty() || options_.adaround || options_.bias_correct ||
                        options_.qat || options_.correction;
    if (!needed || batches_ != nullptr) return;
    fail(ErrorCode::kInvalidArgument,
         "[quantize] '{}': calibration samples are needed to quantize activations, and for "
         "AdaRound, "
         "bias correction, repairs and training",
         original_.name);
  }

  void smooth_channels() {
    if (batches_ == nullptr) {
      fail(ErrorCode::kInvalidArgument,
           "[quantize] '{}': calibration samples are needed for smoothing", original_.name);
    }
    report_.smoothed = smooth(original_, *batches_, *options_.smooth);
  }

  // Every reader of a region reads its codes, so its layers cannot differ in what they take.
  void check_regions() const {
    if (options_.form != ActivationForm::kRegions) return;
    if (options_.correction) {
      fail(ErrorCode::kInvalidArgument,
           "[quantize] '{}': repairs up to a budget do not go with regions: a layer in float would "
           "still read codes",
           original_.name);
    }
    for (const NetworkLayer& layer : layers_) {
      for (const size_t input : layer.activation_inputs) {
        const auto pair = plan_.readers.find({layer.node, input});
        if (pair == plan_.readers.end()) continue;
        const int bits = plan_.group_bits[plan_.pairs[pair->second].group];
        if (bits == layer.precision.activation_bits) continue;
        fail(ErrorCode::kInvalidArgument,
             "[quantize] layer '{}' is to be {}, but reads a region of {} bits that other layers "
             "share (value '{}'): with regions they need activations of the same bits",
             layer.name, to_string(layer.precision), bits,
             original_.value(plan_.pairs[pair->second].value).name);
      }
    }
  }

  void round_weights() {
    for (size_t i = 0; i < layers_.size(); ++i)
      if (layers_[i].precision.weight_bits > 0) weights_[i] = round(layers_[i]);
  }

  void quantize_as_they_come(Graph& result) {
    if (options_.adaround || options_.bias_correct || options_.correction || options_.qat ||
        options_.form != ActivationForm::kInputs) {
      fail(ErrorCode::kInvalidArgument,
           "[quantize] '{}': dynamic quantization goes with none of AdaRound, bias correction, "
           "repairs, training and regions",
           original_.name);
    }
    for (NetworkLayer& layer : layers_) {
      if (layer.precision.is_float()) continue;
      if (!has_integer_form(original_, layer)) {
        report_.notices.push_back(fmt::format(
            "layer '{}' stays in float: it has no form with dynamic quantization", layer.name));
        layer.precision = {0, 0, false};
      } else if (layer.precision.activation_bits != 8 || layer.precision.weight_bits == 0) {
        fail(
            ErrorCode::kInvalidArgument,
            "[quantize] layer '{}': precision {} has no form with dynamic quantization; wN has, of "
            "2 to 8 bits, and float",
            layer.name, to_string(layer.precision));
      }
    }
    round_weights();
    result = original_;
    insert_dynamic(result, layers_, weights_);
    report_layers(result);
  }

  // Parameters of every group of activations.
  void calibrate() {
    if (plan_.pairs.empty()) return;
    std::vector<graph::ValueId> values;
    for (const auto& pair : plan_.pairs) values.push_back(pair.value);
    const calib::Observers observers = calib::observe_activations(
        original_, values, *batches_, options_.observer, options_.observing);
    std::vector<calib::Range> ranges(plan_.group_bits.size());
    for (const auto& pair : plan_.pairs) {
      const calib::Range seen = observers.at(pair.value)->range(grid(pair.group));
      ranges[pair.group].low = std::min(ranges[pair.group].low, seen.low);
      ranges[pair.group].high = std::max(ranges[pair.group].high, seen.high);
    }
    for (size_t group = 0; group < ranges.size(); ++group)
      groups_.push_back(calib::code_parameters(ranges[group], grid(static_cast<int>(group))));
    for (const auto& pair : plan_.pairs) {
      report_.activations.push_back({original_.value(pair.value).name, plan_.group_bits[pair.group],
                                     pair.group, ranges[pair.group], groups_[pair.group]});
    }
  }

  calib::CodeGrid grid(int group) const {
    return {plan_.group_bits[group], options_.symmetric_activations};
  }

  at::Tensor weight_of(const NetworkLayer& layer) const {
    return exec::dense_weight(*original_.value(layer.weight(original_)).weight);
  }

  WeightCodes round(const NetworkLayer& layer) const {
    const WeightRounding rounding{layer.precision.weight_bits, options_.per_tensor,
                                  options_.scales};
    return round_weight(weight_of(layer), layer.weight_axis, rounding);
  }

  void reconstruct(Graph& result) {
    for (const auto& done :
         reconstruct_layers(original_, result, layers_, inserted_.layers, weights_, *batches_,
                            options_.rounding, options_.quiet))
      gains_[done.layer] = done.nearest_error > 0 ? done.error / done.nearest_error : 1;
    for (const auto& [index, codes] : weights_) {
      if (gains_.count(index) == 0)
        report_.notices.push_back(
            fmt::format("layer '{}' keeps its nearest codes: AdaRound has no form for it",
                        layers_[index].name));
    }
  }

  void train(Graph& result) {
    TrainingForm form =
        to_training_form(original_, result, layers_, inserted_, plan_, weights_, groups_);
    report_.training = train_quantized(original_, form, plan_, weights_, groups_, options_.scales,
                                       *batches_, *options_.qat, *training_);
    freeze(form, result, weights_, groups_);
    for (ActivationReport& activation : report_.activations)
      activation.codes = groups_[activation.group];
  }

  void report_layers(const Graph& result) {
    std::vector<std::string> outputs;
    for (const NetworkLayer& layer : layers_)
      outputs.push_back(original_.value(original_.node(layer.node).outputs[0]).name);
    std::unordered_map<std::string, double> ratios;
    if (batches_ != nullptr && options_.report_samples > 0) {
      for (const graph::ValueId id : original_.outputs) outputs.push_back(original_.value(id).name);
      ratios = signal_to_noise(original_, result, outputs, *batches_, options_.report_samples);
      for (size_t i = layers_.size(); i < outputs.size(); ++i)
        if (const auto it = ratios.find(outputs[i]); it != ratios.end())
          report_.output_sqnr_db =
              std::min(report_.output_sqnr_db.value_or(it->second), it->second);
    }
    const Graph sized = with_sizes();
    for (size_t i = 0; i < layers_.size(); ++i) {
      NetworkLayerReport layer = report_of(i);
      if (const auto it = ratios.find(outputs[i]); it != ratios.end())
        layer.output_sqnr_db = it->second;
      layer.macs = graph::multiply_accumulates(sized, sized.node(layers_[i].node));
      report_.layers.push_back(std::move(layer));
    }
    report_.int8_mac_share = mac_share(sized);
  }

  NetworkLayerReport report_of(size_t index) const {
    const NetworkLayer& layer = layers_[index];
    NetworkLayerReport report;
    report.name = layer.name;
    report.op = original_.node(layer.node).op;
    report.precision = layer.precision;
    if (layer.weight_input) report.weight = original_.value(layer.weight(original_)).name;
    if (const auto it = gains_.find(index); it != gains_.end()) report.rounding_gain = it->second;
    if (layer.weight_input && layer.precision.float16_weights)
      report.weight_error = error_of(layer, weight_of(layer).to(at::kHalf));
    const auto codes = weights_.find(index);
    if (codes == weights_.end()) return report;
    report.least_scale = codes->second.scales.min().item<double>();
    report.largest_scale = codes->second.scales.max().item<double>();
    report.weight_error = error_of(layer, decode(codes->second));
    return report;
  }

  double error_of(const NetworkLayer& layer, const at::Tensor& stored) const {
    const at::Tensor w = weight_of(layer).to(at::kDouble);
    const double energy = w.square().sum().item<double>();
    const double error = (w - stored.to(at::kDouble)).square().sum().item<double>();
    return energy > 0 ? error / energy : 0;
  }

  // The network at the shapes of the first calibration batch, so that work can be counted.
  Graph with_sizes() const {
    Graph sized = original_;
    if (batches_ == nullptr) return sized;
    std::map<std::string, std::vector<int64_t>> shapes;
    (*batches_)([&](const calib::Inputs& inputs) {
      for (const auto& [name, tensor] : inputs) shapes[name] = tensor.sizes().vec();
      return false;
    });
    graph::bind_input_shapes(sized, shapes);
    return sized;
  }

  std::optional<double> mac_share(const Graph& sized) const {
    double all = 0, in_codes = 0;
    for (const graph::Node& node : sized.nodes()) {
      const auto macs = graph::multiply_accumulates(sized, node);
      if (!macs) return std::nullopt;
      all += static_cast<double>(*macs);
    }
    for (const NetworkLayerReport& layer : report_.layers) {
      const bool weights = layer.weight.empty() || layer.precision.weight_bits > 0;
      if (layer.precision.activation_bits > 0 && weights)
        in_codes += static_cast<double>(layer.macs.value_or(0));
    }
    return all > 0 ? std::optional(in_codes / all) : std::nullopt;
  }

  Graph original_;
  const NetworkOptions& options_;
  const calib::Batches* batches_;
  const TrainingData* training_;
  std::vector<NetworkLayer> layers_;
  ActivationPlan plan_;
  std::vector<calib::CodeParameters> groups_;
  std::map<size_t, WeightCodes> weights_;  // by layer
  Inserted inserted_;
  std::unordered_map<size_t, double> gains_;
  NetworkReport report_;
};

}  // namespace

NetworkReport quantize_network(Graph& graph, const NetworkOptions& options,
                               const calib::Batches* batches, const TrainingData* training) {
  Graph result;
  NetworkReport report = NetworkQuantizer(graph, options, batches, training).run(result);
  graph = std::move(result);
  return report;
}

Json options_to_json(const NetworkOptions& options) {
  Json json = {{"precision", to_string(options.precision)},
               {"form", options.form == ActivationForm::kInputs ? "inputs" : "regions"},
               {"per_tensor", options.per_tensor},
               {"scale", options.scales == ScaleMethod::kSearch ? "search" : "absmax"},
               {"equalize", options.equalize},
               {"adaround", options.adaround},
               {"bias_correct", options.bias_correct}};
  if (options.dynamic) {
    json["dynamic"] = true;
  } else {
    json["symmetric_activations"] = options.symmetric_activations;
    json["observer"] = calib::observer_name(options.observer);
  }
  if (options.observer == calib::ObserverKind::kPercentile)
    json["percentile"] = options.observing.percentile;
  if (options.observer == calib::ObserverKind::kMovingAverage)
    json["momentum"] = options.observing.momentum;
  if (options.bias_correct || options.correction) json["bias_samples"] = options.bias_samples;
  if (options.adaround || options.correction) {
    json["adaround_iterations"] = options.rounding.iterations;
    json["seed"] = options.rounding.seed;
  }
  if (options.smooth) json["smooth"] = options.smooth->strength;
  if (options.correction) json["correct_until"] = options.correction->goal;
  if (options.qat) json["qat"] = options_to_json(*options.qat);
  if (options.edge) json["first_last"] = to_string(*options.edge);
  const auto put = [&](const char* key, const std::vector<PrecisionRule>& rules) {
    for (const PrecisionRule& rule : rules)
      json[key].push_back(rule.pattern + "=" + to_string(rule.precision));
  };
  put("sensitivity", options.table);
  put("overrides", options.overrides);
  return json;
}

namespace {

Json correction_to_json(const CorrectionReport& report) {
  Json json = {{"goal", report.goal}, {"met", report.met()}, {"repairs", Json::array()}};
  const auto put = [](Json& at, const char* key, double value) {
    if (std::isfinite(value)) at[key] = value;
  };
  put(json, "before", report.before);
  put(json, "after", report.after);
  for (const RepairReport& repair : report.repairs) {
    Json entry = {
        {"layer", repair.layer}, {"repair", repair_name(repair.repair)}, {"kept", repair.kept}};
    put(entry, "before", repair.before);
    put(entry, "after", repair.after);
    json["repairs"].push_back(std::move(entry));
  }
  return json;
}

}  // namespace

std::string precisions_of(const NetworkReport& report) {
  std::vector<std::pair<std::string, int>> counts;  // in the order of the layers
  for (const NetworkLayerReport& layer : report.layers) {
    const std::string text = to_string(layer.precision);
    const auto it = std::ranges::find(counts, text, &std::pair<std::string, int>::first);
    if (it == counts.end()) {
      counts.emplace_back(text, 1);
    } else {
      ++it->second;
    }
  }
  if (counts.size() == 1) return counts[0].first;
  std::string all;
  for (const auto& [text, count] : counts) {
    all += all.empty() ? fmt::format("{} ({} layer{})", text, count, count == 1 ? "" : "s")
                       : fmt::format(", {} ({})", text, count);
  }
  return all;
}

void add_repairs(const NetworkReport& report, Json& options) {
  if (!report.correction) return;
  const auto& layers = report.layers;
  const bool alike = std::ranges::all_of(
      layers, [&](const auto& layer) { return layer.precision == layers[0].precision; });
  options["precision"] = alike ? to_string(layers.at(0).precision) : "mixed";
  for (const NetworkLayerReport& layer : layers)
    if (!alike) options["layers"][layer.name] = to_string(layer.precision);
  options["repairs"] = Json::object();
  for (const auto& [layer, repairs] : report.correction->standing) {
    for (const Repair repair : repairs) {
      options["repairs"][layer].push_back(repair_name(repair));
      if (repair == Repair::kBias) options["bias_correct"] = true;
      if (repair == Repair::kAdaRound) options["adaround"] = true;
    }
  }
}

Json report_to_json(const NetworkReport& report) {
  Json json;
  for (const NetworkLayerReport& layer : report.layers) {
    Json entry = {{"name", layer.name},
                  {"op", layer.op},
                  {"precision", to_string(layer.precision)},
                  {"weight_error", layer.weight_error}};
    if (!layer.weight.empty()) entry["weight"] = layer.weight;
    if (layer.precision.weight_bits > 0) entry["scales"] = {layer.least_scale, layer.largest_scale};
    if (layer.rounding_gain) entry["adaround_error_ratio"] = *layer.rounding_gain;
    if (layer.output_sqnr_db && std::isfinite(*layer.output_sqnr_db))
      entry["output_sqnr_db"] = *layer.output_sqnr_db;
    if (layer.macs) entry["macs"] = *layer.macs;
    json["layers"].push_back(std::move(entry));
  }
  for (const ActivationReport& a : report.activations) {
    json["activations"].push_back({{"value", a.value},
                                   {"bits", a.bits},
                                   {"group", a.group},
                                   {"range", {a.range.low, a.range.high}},
                                   {"scale", a.codes.scale},
                                   {"zero_point", a.codes.zero_point}});
  }
  if (report.output_sqnr_db && std::isfinite(*report.output_sqnr_db))
    json["output_sqnr_db"] = *report.output_sqnr_db;
  if (report.int8_mac_share) json["int8_mac_share"] = *report.int8_mac_share;
  if (report.training) {
    json["training"] = {{"losses", report.training->losses},
                        {"steps", report.training->steps},
                        {"seconds", report.training->seconds}};
  }
  if (report.correction) json["correction"] = correction_to_json(*report.correction);
  json["equalized_pairs"] = report.equalized_pairs;
  if (report.smoothed) {
    json["smoothed"] = {{"values", report.smoothed->values},
                        {"multiplications", report.smoothed->multiplications},
                        {"largest_factor", report.smoothed->largest_factor}};
  }
  return json;
}

}  // namespace packlight::quantize

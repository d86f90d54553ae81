#include "cli/compress/quantize_network.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <optional>

#include "base/fail.h"
#include "cli/compress/network_flags.h"
#include "cli/compress/network_output.h"
#include "cli/compress/output.h"
#include "cli/peak_memory.h"
#include "exec/evaluate.h"
#include "graph/simplify/simplify.h"
#include "quantize/quantize_network.h"
#include "quantize/sensitivity.h"

namespace packlight::cli {
namespace {

int weight_bits_of(const QuantizeNetworkFlags& flags) {
  if (flags.weight_bits > 0) return flags.weight_bits;
  if (flags.scheme.empty())
    fail(ErrorCode::kInvalidArgument, "[quantize] '{}': --scheme or --wbits is needed",
         flags.model);
  return flags.scheme == "int4" || flags.scheme == "w4a8" ? 4 : 8;
}

quantize::NetworkOptions options_of(const QuantizeNetworkFlags& flags) {
  quantize::NetworkOptions options;
  options.precision.weight_bits = weight_bits_of(flags);
  options.precision.activation_bits = flags.activations == "none" ? 0 : flags.activation_bits;
  options.symmetric_activations = flags.activations != "uint8";
  if (!flags.first_last.empty())
    options.edge = quantize::parse_precision(flags.first_last, options.precision);
  if (!flags.sensitivity.empty()) {
    options.overrides = quantize::precision_rules(
        quantize::sensitivity_from_json(base::read_json_file(flags.sensitivity), flags.sensitivity),
        options.precision);
  }
  for (const std::string& text : flags.overrides)
    options.overrides.push_back(quantize::parse_precision_rule(text, options.precision));
  options.form =
      flags.regions ? quantize::ActivationForm::kRegions : quantize::ActivationForm::kInputs;
  options.per_tensor = flags.per_tensor;
  options.scales =
      flags.scale == "absmax" ? quantize::ScaleMethod::kAbsMax : quantize::ScaleMethod::kSearch;
  options.observer = calib::parse_observer(flags.observer);
  options.observing.percentile = flags.percentile;
  options.equalize = flags.equalize;
  options.bias_correct = flags.bias_correct;
  options.adaround = flags.adaround;
  options.rounding.iterations = flags.adaround_iterations;
  options.rounding.seed = static_cast<uint64_t>(flags.seed);
  return options;
}

void print_layers(const quantize::NetworkReport& report) {
  fmt::print("{:<40} {:<14} {:<7} {:>13} {:>12} {:>10}\n", "layer", "operator", "bits",
             "weight error", "output SQNR", "AdaRound");
  for (const quantize::NetworkLayerReport& layer : report.layers) {
    fmt::print("{:<40} {:<14} {:<7} {:>13} {:>12} {:>10}\n", layer.name, layer.op,
               quantize::to_string(layer.precision),
               layer.precision.weight_bits > 0 ? fmt::format("{:.2e}", layer.weight_error) : "",
               layer.output_sqnr_db ? fmt::format("{:.1f} dB", *layer.output_sqnr_db) : "",
               layer.rounding_gain ? fmt::format("x {:.2f}", *layer.rounding_gain) : "");
  }
}

}  // namespace

std::vector<std::string> add_network_flags(CLI::App& verb, QuantizeNetworkFlags& flags) {
  std::vector<CLI::Option*> added;
  const auto keep = [&](CLI::Option* option) {
    option->group("ONNX networks");
    added.push_back(option);
    return option;
  };
  for (CLI::Option* option : add_calibration_flags(verb, flags.calibration)) keep(option);
  keep(verb.add_option("--activations", flags.activations,
                       "int8: symmetric; uint8: with a zero point; none: weights only"))
      ->check(CLI::IsMember({"int8", "uint8", "none"}))
      ->capture_default_str();
  keep(verb.add_option("--observer", flags.observer,
                       "which range activations get: minmax, moving (average), percentile, mse, "
                       "entropy"))
      ->check(CLI::IsMember({"minmax", "moving", "percentile", "mse", "entropy"}))
      ->capture_default_str();
  keep(verb.add_option("--percentile", flags.percentile,
                       "percentile: percent of values at each end that do not saturate"))
      ->capture_default_str();
  keep(verb.add_flag("--per-tensor", flags.per_tensor,
                     "one scale a weight instead of one an output channel"));
  keep(verb.add_flag("--regions", flags.regions,
                     "round what layers make, too, and let codes flow through pooling, "
                     "concatenation and residual sums, which then share scales; for engines that "
                     "compute in integers throughout. Default: only what layers multiply"));
  keep(verb.add_option("--wbits", flags.weight_bits,
                       "bits of weights, 2 to 8, instead of the scheme's"))
      ->check(CLI::Range(2, 8));
  keep(verb.add_option("--abits", flags.activation_bits, "bits of activations, 2 to 8"))
      ->check(CLI::Range(2, 8))
      ->capture_default_str();
  keep(verb.add_option("--first-last", flags.first_last,
                       "precision of first and last layers (as in --override)"));
  keep(verb.add_option("--sensitivity", flags.sensitivity,
                       "table of `probe --sensitivity`: layers of 0.8 and more get f16, of 0.5 and "
                       "more int8, the others int4; --override comes after it"));
  keep(verb.add_flag("--equalize", flags.equalize,
                     "even out channels across layers before rounding"));
  keep(verb.add_flag("--adaround", flags.adaround,
                     "choose for each weight whether it goes up or down"));
  keep(verb.add_option("--adaround-iterations", flags.adaround_iterations, "a layer"))
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  keep(verb.add_flag("--bias-correct", flags.bias_correct,
                     "subtract from biases what quantization adds on average, layer after layer"));
  keep(verb.add_option("--opset", flags.opset, "of the file written, 13 to 23"))
      ->check(CLI::Range(13, 23))
      ->capture_default_str();
  std::vector<std::string> names;
  for (const CLI::Option* option : added) names.push_back(option->get_name());
  return names;
}

void simplify_for_quantization(graph::Graph& graph) {
  graph::SimplifyOptions options;
  options.evaluate = exec::evaluate_node;
  options.fuse_attention = false;
  graph::simplify(graph, options);
}

void quantize_network_file(const QuantizeNetworkFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  const quantize::NetworkOptions options = options_of(flags);
  const bool as_package = is_package_name(flags.output, "quantize");
  check_output(flags.model, flags.output);
  import::OnnxNetwork network = load_network(flags.model);
  simplify_for_quantization(network.graph);
  const graph::Graph original = network.graph;
  std::optional<CalibrationData> data;
  if (!flags.calibration.data.empty())
    data.emplace(original, flags.model, flags.calibration, static_cast<uint64_t>(flags.seed));
  const calib::Batches batches = data ? data->batches() : nullptr;
  const quantize::NetworkReport report =
      quantize::quantize_network(network.graph, options, data ? &batches : nullptr);
  for (const std::string& notice : report.notices)
    std::fprintf(stderr, "note: %s\n", notice.c_str());
  Json recipe = quantize::options_to_json(options);
  if (data) recipe["samples"] = data->samples();
  NetworkOutput output{flags.output, flags.model, as_package, recipe, flags.opset};
  output.weights = deploy::OnnxWeights::kQdq;
  const WrittenNetwork written = write_network(network, output);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (flags.json) {
    Json json = quantize::report_to_json(report);
    json["output"] = flags.output;
    json["bytes"] = written.bytes;
    if (written.opset) json["opset"] = *written.opset;
    json["recipe"] = recipe;
    json["seconds"] = seconds;
    json["peak_rss_mb"] = peak_rss_mb();
    fmt::print("{}\n", json.dump(2));
    return;
  }
  print_layers(report);
  fmt::print("{}: {:.2f} MB, {}{}, {:.0f} s, peak memory {:.0f} MB\n", flags.output,
             static_cast<double>(written.bytes) / 1e6, quantize::to_string(options.precision),
             report.int8_mac_share
                 ? fmt::format(", {:.1f} % of multiply-accumulates in 8 bits or fewer",
                               100 * *report.int8_mac_share)
                 : "",
             seconds, peak_rss_mb());
}

}  // namespace packlight::cli

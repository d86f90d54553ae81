#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "cli/compress/calibration_data.h"
#include "cli/compress/network_flags.h"
#include "cli/compress/output.h"
#include "cli/compress/quantize_network.h"
#include "cli/verbs.h"
#include "data/loader.h"
#include "eval/classification.h"
#include "exec/executor.h"
#include "quantize/sensitivity.h"

namespace packlight::cli {
namespace {

struct ProbeFlags {
  std::string model, output, precision = "int8", activations = "int8", observer = "minmax",
                             validation;
  CalibrationFlags calibration;
  int64_t seed = 0, eval_samples = 1000, blank = 0;
  bool sensitivity = false, json = false;
  int threads = 0;
};

// A task's metric of networks on held-out samples, higher is better.
class Metric {
 public:
  Metric(const ProbeFlags& flags, const graph::Graph& original) : flags_(flags) {
    const std::string& path = flags.validation;
    dataset_ = open_samples(original, path, flags.model, flags.calibration.preprocess, std::nullopt,
                            /*held_out=*/true);
    if (dataset_->label_kind() == data::LabelKind::kNone) {
      data::Loader loader(dataset_, loading(original));
      readings_ = eval::readings_of(eval::graph_subject(original), loader, options());
      if (readings_.empty()) {
        fail(ErrorCode::kInvalidArgument,
             "[probe] '{}' has no labels, and the first output of '{}' is no scores of classes: "
             "there is no metric for --valid",
             path, flags.model);
      }
    }
    float_ = measure(original);
  }
  double change(const graph::Graph& graph) const { return measure(graph) - float_; }

 private:
  data::LoaderOptions loading(const graph::Graph& graph) const {
    return loading_for(graph, *dataset_, flags_.calibration.batch_size, 64);
  }

  eval::TaskOptions options() const {
    eval::TaskOptions options;
    options.most_samples = flags_.eval_samples;
    options.ctc_blank = flags_.blank;
    options.quiet = true;
    if (!readings_.empty()) options.original_readings = &readings_;
    return options;
  }

  double measure(const graph::Graph& graph) const {
    data::Loader loader(dataset_, loading(graph));
    const eval::TaskReport report =
        eval::evaluate_task(eval::graph_subject(graph), nullptr, loader, options());
    if (report.top1) return report.top1->value;
    if (report.sequence_accuracy) return report.sequence_accuracy->value;
    if (report.mean_squared_error) return -report.mean_squared_error->value;
    return report.agreement ? report.agreement->value : 0;
  }

  const ProbeFlags& flags_;
  std::shared_ptr<const data::Dataset> dataset_;
  std::vector<std::vector<int64_t>> readings_;  // of the float network, where there are no labels
  double float_ = 0;
};

void print(const std::vector<quantize::LayerSensitivity>& table, bool metric) {
  fmt::print("{:<40} {:>12} {:>12}{}\n", "layer quantized alone", "output SQNR", "sensitivity",
             metric ? "      metric" : "");
  for (const quantize::LayerSensitivity& row : table) {
    fmt::print("{:<40} {:>9.1f} dB {:>12.3f}{}\n", row.layer, row.output_sqnr_db, row.sensitivity,
               row.metric_change ? fmt::format("{:>+12.5f}", *row.metric_change) : "");
  }
}

void probe(const ProbeFlags& flags) {
  if (!flags.sensitivity)
    fail(ErrorCode::kInvalidArgument, "[probe] what to look at is missing: --sensitivity");
  exec::initialise(flags.threads > 0
                       ? flags.threads
                       : static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  if (!flags.output.empty()) check_output(flags.model, flags.output);
  import::OnnxNetwork network = load_network(flags.model);
  simplify_for_quantization(network.graph);
  const CalibrationData data(network.graph, flags.model, flags.calibration,
                             static_cast<uint64_t>(flags.seed));
  quantize::NetworkOptions options;
  options.precision =
      quantize::parse_precision(flags.precision, {8, flags.activations == "none" ? 0 : 8, false});
  options.symmetric_activations = flags.activations != "uint8";
  options.observer = calib::parse_observer(flags.observer);
  options.report_samples = data.samples();
  std::unique_ptr<Metric> metric;
  if (!flags.validation.empty()) metric = std::make_unique<Metric>(flags, network.graph);
  const auto table = quantize::measure_sensitivity(
      network.graph, options, data.batches(),
      metric ? std::function<double(const graph::Graph&)>(
                   [&](const graph::Graph& graph) { return metric->change(graph); })
             : nullptr);
  const Json json = {{"model", flags.model},
                     {"precision", quantize::to_string(options.precision)},
                     {"samples", data.samples()},
                     {"layers", quantize::sensitivity_to_json(table)}};
  const std::string text = json.dump(2) + "\n";
  if (!flags.output.empty()) {
    base::AtomicFile file(flags.output);
    file.write(std::as_bytes(std::span(text)));
    file.commit();
  }
  if (flags.json) {
    fmt::print("{}", text);
  } else {
    print(table, metric != nullptr);
  }
}

}  // namespace

void add_probe(CLI::App& app) {
  auto flags = std::make_shared<ProbeFlags>();
  CLI::App* verb = app.add_subcommand(
      "probe", "Measure what quantizing each layer of a network alone would cost");
  verb->add_option("MODEL", flags->model, "ONNX file")->required();
  verb->add_flag("--sensitivity", flags->sensitivity,
                 "for each layer: signal-to-noise ratio of the network's output when that layer "
                 "alone is quantized, and with --valid the change of the metric");
  verb->add_option("-o,--output", flags->output, "table (JSON) that quantize --sensitivity reads");
  for (CLI::Option* option : add_calibration_flags(*verb, flags->calibration))
    if (option->get_name() == "--data") option->required();
  flags->calibration.samples = 128;
  verb->get_option("--samples")->default_str("128");
  verb->add_option("--precision", flags->precision, "that a layer gets: int8, int4, wN or wNaM")
      ->capture_default_str();
  verb->add_option("--activations", flags->activations, "int8, uint8 or none")
      ->check(CLI::IsMember({"int8", "uint8", "none"}))
      ->capture_default_str();
  verb->add_option("--observer", flags->observer, "range of activations, as in quantize")
      ->check(CLI::IsMember({"minmax", "moving", "percentile", "mse", "entropy"}))
      ->capture_default_str();
  verb->add_option(
      "--valid", flags->validation,
      "samples that the metric is measured on; without labels it is the share read as the float "
      "network reads them");
  verb->add_option("--eval-samples", flags->eval_samples, "of them; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--blank", flags->blank, "class of a text recognizer that stands for nothing")
      ->capture_default_str();
  verb->add_option("--seed", flags->seed, "that picks the samples")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--threads", flags->threads, "0: one per processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "the table on standard output");
  verb->footer(
      "Examples:\n"
      "  packlight probe net.onnx --sensitivity --data samples.npz -o table.json\n"
      "  packlight quantize net.onnx -o q.onnx --scheme int8 --data samples.npz --sensitivity "
      "table.json");
  verb->callback([flags] { probe(*flags); });
}

}  // namespace packlight::cli

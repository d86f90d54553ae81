#include "cli/compress/quantize_network.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "base/fail.h"
#include "cli/compress/budget_judge.h"
#include "cli/compress/network_flags.h"
#include "cli/compress/network_output.h"
#include "cli/compress/output.h"
#include "cli/peak_memory.h"
#include "data/loader.h"
#include "exec/data_inputs.h"
#include "exec/evaluate.h"
#include "graph/simplify/simplify.h"
#include "io/network_package.h"
#include "quantize/quantize_network.h"
#include "quantize/sensitivity.h"
#include "runtime/network/fuse.h"
#include "train/batches.h"

namespace packlight::cli {
namespace {

int weight_bits_of(const QuantizeNetworkFlags& flags) {
  if (flags.weight_bits > 0) return flags.weight_bits;
  if (flags.scheme.empty())
    fail(ErrorCode::kInvalidArgument, "[quantize] '{}': --scheme or --wbits is needed",
         flags.model);
  return flags.scheme == "int4" || flags.scheme == "w4a8" ? 4 : 8;
}

quantize::QatOptions qat_options_of(const QuantizeNetworkFlags& flags) {
  if (flags.calibration.data.empty())
    fail(ErrorCode::kInvalidArgument, "[quantize] '{}': --qat needs --data to train on",
         flags.model);
  quantize::QatOptions options;
  options.method =
      flags.qat_method == "ste" ? quantize::QatMethod::kSte : quantize::QatMethod::kLsq;
  options.epochs = flags.qat_epochs;
  options.observe_epochs = flags.qat_observe;
  options.optimizer.kind = train::parse_optimizer(flags.optimizer);
  options.optimizer.weight_decay = flags.weight_decay;
  options.learning_rate = flags.learning_rate;
  options.temperature = flags.temperature;
  options.seed = static_cast<uint64_t>(flags.seed);
  return options;
}

quantize::NetworkOptions options_of(const QuantizeNetworkFlags& flags) {
  quantize::NetworkOptions options;
  options.precision.weight_bits = weight_bits_of(flags);
  options.precision.activation_bits = flags.activations == "none" ? 0 : flags.activation_bits;
  options.symmetric_activations = flags.activations != "uint8";
  if (!flags.first_last.empty())
    options.edge = quantize::parse_precision(flags.first_last, options.precision);
  if (!flags.sensitivity.empty()) {
    options.table = quantize::precision_rules(
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
  if (flags.smooth) options.smooth = quantize::SmoothOptions{*flags.smooth};
  options.bias_correct = flags.bias_correct;
  options.adaround = flags.adaround;
  options.rounding.iterations = flags.adaround_iterations;
  options.rounding.seed = static_cast<uint64_t>(flags.seed);
  options.dynamic = flags.dynamic;
  if (flags.qat_epochs > 0) options.qat = qat_options_of(flags);
  return options;
}

// The data set's labels decide the loss; without any the float network is the teacher.
class QatData {
 public:
  QatData(const graph::Graph& graph, const QuantizeNetworkFlags& flags)
      : graph_(graph), temperature_(flags.temperature) {
    const CalibrationFlags& from = flags.calibration;
    auto dataset =
        open_samples(graph, from.data, flags.model, from.preprocess,
                     flags.qat_distil ? std::optional(data::LabelKind::kNone) : std::nullopt);
    switch (dataset->label_kind()) {
      case data::LabelKind::kNone:
        training_.loss.kind = train::LossKind::kKl;
        break;
      case data::LabelKind::kClass:
        training_.loss.kind = train::LossKind::kCrossEntropy;
        break;
      case data::LabelKind::kSequence:
        training_.loss.kind = train::LossKind::kCtc;
        training_.loss.ctc_blank = flags.blank;
        break;
      case data::LabelKind::kVector:
        training_.loss.kind = train::LossKind::kMse;
        break;
    }
    loading_ = loading_for(graph, *dataset, flags.qat_batch, 0);
    loading_.seed = static_cast<uint64_t>(flags.seed);
    loading_.shuffle = true;
    loading_.drop_last = true;
    loading_.augment = flags.augment;
    loader_ = std::make_unique<data::Loader>(dataset, loading_);
    training_.batches = loader_->batches();
    training_.each = [this](int64_t epoch, const std::function<void(train::Batch)>& use) {
      loader_->start_epoch(epoch);
      while (const auto batch = loader_->next()) use(to_batch(*batch));
    };
  }
  QatData(const QatData&) = delete;

  const quantize::TrainingData& training() const { return training_; }

  // Adds what the options of training do not say.
  void describe(Json& recipe) const {
    recipe["loss"] = train::loss_name(training_.loss.kind);
    if (training_.loss.kind == train::LossKind::kCtc) recipe["blank"] = training_.loss.ctc_blank;
    if (training_.loss.kind == train::LossKind::kKl) recipe["temperature"] = temperature_;
    recipe["batch_size"] = loading_.batch_size;
    recipe["flip"] = loading_.augment.flip;
    recipe["shift"] = loading_.augment.shift;
    recipe["crop_pad"] = loading_.augment.crop_pad;
  }

 private:
  train::Batch to_batch(const data::Batch& batch) const {
    if (training_.loss.kind != train::LossKind::kKl)
      return train::to_batch(graph_, batch, training_.loss.kind);
    return {exec::input_tensors(graph_, batch), {}};
  }

  const graph::Graph& graph_;
  double temperature_;
  data::LoaderOptions loading_;
  std::unique_ptr<data::Loader> loader_;
  quantize::TrainingData training_;
};

// The last part of a path, whether or not it ends in a slash.
std::string name_of(const std::filesystem::path& path) {
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

void print_layers(const quantize::NetworkReport& report) {
  fmt::print("{:<40} {:<14} {:<7} {:>13} {:>12} {:>10}\n", "layer", "operator", "bits",
             "weight error", "output SQNR", "AdaRound");
  for (const quantize::NetworkLayerReport& layer : report.layers) {
    fmt::print("{:<40} {:<14} {:<7} {:>13} {:>12} {:>10}\n", layer.name, layer.op,
               quantize::to_string(layer.precision),
               layer.precision.weight_bits > 0 || layer.precision.float16_weights
                   ? fmt::format("{:.2e}", layer.weight_error)
                   : "",
               layer.output_sqnr_db ? fmt::format("{:.1f} dB", *layer.output_sqnr_db) : "",
               layer.rounding_gain ? fmt::format("x {:.2f}", *layer.rounding_gain) : "");
  }
}

void print_repairs(const quantize::CorrectionReport& report, const std::string& unit) {
  if (!report.repairs.empty())
    fmt::print("\n{:<40} {:<10} {:>9}    {:>9}   {}\n", "layer", "repair", "before", "after", unit);
  for (const quantize::RepairReport& repair : report.repairs) {
    fmt::print("{:<40} {:<10} {:>9.3f} -> {:>9.3f}{}\n", repair.layer,
               quantize::repair_name(repair.repair), repair.before, repair.after,
               repair.kept ? "" : "  (undone)");
  }
  fmt::print("repairs: {:.3f} -> {:.3f} ({}), {:.3f} was asked for: {}\n", report.before,
             report.after, unit, report.goal, report.met() ? "met" : "not met");
}

// Below it a network's output is more noise than one may expect of any use.
constexpr double kPoorOutput = 10;  // dB

void print_output_error(const quantize::NetworkReport& report) {
  if (!report.output_sqnr_db) return;
  const double db = *report.output_sqnr_db;
  fmt::print("output of the network: {:.1f} dB over its error\n", db);
  if (db >= kPoorOutput) return;
  std::fprintf(
      stderr,
      "note: the error of the network's output is large (%.1f dB, below %.0f): look at the "
      "column 'output SQNR' for where it begins, and measure the file with eval --against\n",
      db, kPoorOutput);
}

// What the share of multiply-accumulates counts, and which of it a package's runtime multiplies as
// integers: layers that became one of its integer kernels.
std::string work_text(const quantize::NetworkReport& report, const std::string& package) {
  if (!report.int8_mac_share) return "";
  std::string text = fmt::format(
      ", inputs and weights of {:.1f} % of the multiply-accumulates rounded to 8 bits or fewer",
      100 * *report.int8_mac_share);
  if (package.empty()) return text;
  std::vector<std::string> integer;  // a layer's name, with its activation's behind a plus
  for (const io::NetworkNode& node :
       runtime::fuse(io::NetworkPackage::open(package).network()).network->nodes) {
    if (node.domain == runtime::kFusedDomain && node.op.starts_with("Int8"))
      integer.push_back(node.name);
  }
  double rounded = 0, multiplied = 0;
  for (const quantize::NetworkLayerReport& layer : report.layers) {
    if (layer.precision.activation_bits == 0) continue;
    if (!layer.weight.empty() && layer.precision.weight_bits == 0) continue;
    rounded += static_cast<double>(layer.macs.value_or(0));
    const bool found = std::ranges::any_of(integer, [&](const std::string& name) {
      return name == layer.name || name.starts_with(layer.name + "+");
    });
    if (found) multiplied += static_cast<double>(layer.macs.value_or(0));
  }
  const double share = rounded > 0 ? multiplied / rounded * *report.int8_mac_share : 0;
  return text + fmt::format(" ({:.1f} % multiplied as integers by the runtime)", 100 * share);
}

// Whether activations are certainly looked at; where precisions are said layer by layer, the
// library knows.
void check_samples_given(const QuantizeNetworkFlags& flags,
                         const quantize::NetworkOptions& options) {
  if (!flags.calibration.data.empty() || options.dynamic || options.edge ||
      !options.overrides.empty() || !options.table.empty() ||
      options.precision.activation_bits == 0)
    return;
  fail(ErrorCode::kInvalidArgument,
       "[quantize] '{}': calibration samples are needed to round activations: give them by --data "
       "(--activations none rounds weights only, --dynamic takes ranges as they come)",
       flags.model);
}

std::vector<CLI::Option*> add_qat_flags(CLI::App& verb, QuantizeNetworkFlags& flags) {
  return {
      verb.add_option("--qat", flags.qat_epochs,
                      "train weights, biases and scales in codes for so many passes over --data; "
                      "labels decide the loss, without them the float network is the teacher")
          ->check(CLI::PositiveNumber),
      verb.add_option("--qat-method", flags.qat_method,
                      "lsq: scales are learned; ste: they follow what is seen, then are frozen")
          ->check(CLI::IsMember({"lsq", "ste"}))
          ->capture_default_str(),
      verb.add_option("--qat-observe", flags.qat_observe, "ste: epochs before scales are frozen")
          ->check(CLI::NonNegativeNumber)
          ->capture_default_str(),
      verb.add_flag("--qat-distil", flags.qat_distil,
                    "the float network is the teacher although there are labels"),
      verb.add_option("--temperature", flags.temperature, "qat: of the teacher's distribution")
          ->check(CLI::PositiveNumber)
          ->capture_default_str(),
      verb.add_option("--qat-batch", flags.qat_batch, "qat: samples a batch")
          ->check(CLI::PositiveNumber)
          ->capture_default_str(),
      verb.add_option("--optimizer", flags.optimizer, "qat: sgd (with momentum) or adamw")
          ->check(CLI::IsMember({"sgd", "adamw"}))
          ->capture_default_str(),
      verb.add_option("--lr", flags.learning_rate, "qat: learning rate, falls along a cosine")
          ->check(CLI::PositiveNumber)
          ->capture_default_str(),
      verb.add_option("--weight-decay", flags.weight_decay, "qat: of weights")
          ->check(CLI::NonNegativeNumber)
          ->capture_default_str(),
      verb.add_option("--flip", flags.augment.flip, "qat: probability of mirroring a picture"),
      verb.add_option("--shift", flags.augment.shift,
                      "qat: pictures are moved by up to so many pixels"),
      verb.add_option("--crop-pad", flags.augment.crop_pad,
                      "qat: so many black pixels around, then a random cut of the old size")};
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
                       "more int8, the others int4; --first-last and --override come after it"));
  keep(verb.add_flag("--equalize", flags.equalize,
                     "even out channels across layers before rounding"));
  keep(verb.add_option(
           "--smooth", flags.smooth,
           "even out the channels of activations before rounding, in the weights' stead: "
           "0 (not at all) to 1 (entirely; depthwise convolutions always are)"))
      ->check(CLI::Range(0.0, 1.0));
  keep(verb.add_flag("--adaround", flags.adaround,
                     "choose for each weight whether it goes up or down"));
  keep(verb.add_option("--adaround-iterations", flags.adaround_iterations, "a layer"))
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  keep(verb.add_flag("--bias-correct", flags.bias_correct,
                     "subtract from biases what quantization adds on average, layer after layer"));
  keep(verb.add_flag("--dynamic", flags.dynamic,
                     "activations get their scale as they come (no --data needed): "
                     "DynamicQuantizeLinear and integer operators"));
  keep(verb.add_option("--correct-until", flags.correct_until,
                       "repair layers, the worst first, by bias, scales, AdaRound, then more bits, "
                       "until sqnr=DB at the output, top1=POINTS lost at most or agreement=SHARE "
                       "on --valid"));
  keep(verb.add_option("--valid", flags.validation, "samples that --correct-until judges on"));
  keep(verb.add_option("--valid-samples", flags.validation_samples,
                       "of them, the first so many; 0: all"))
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  keep(verb.add_option("--blank", flags.blank,
                       "class of a text recognizer that stands for nothing, for --qat and "
                       "--correct-until"))
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  for (CLI::Option* option : add_qat_flags(verb, flags)) keep(option);
  keep(verb.add_option("--opset", flags.opset, "of the file written, 13 to 23"))
      ->check(CLI::Range(13, 23))
      ->capture_default_str();
  std::vector<std::string> names;
  for (const CLI::Option* option : added) names.push_back(option->get_name());
  return names;
}

void check_network_flags(const CLI::App& verb, const QuantizeNetworkFlags& flags) {
  const bool qat = flags.qat_epochs > 0, data = !flags.calibration.data.empty(),
             judged = !flags.correct_until.empty();
  const char *as_they_come = "with --dynamic activations get their range as they come",
             *of_qat = "it is of --qat", *of_data = "there is no --data";
  refuse_idle_flags(
      verb, {{"--wbits", flags.sensitivity.empty(), "--sensitivity gives every layer its bits"},
             {"--activations", !flags.dynamic, as_they_come},
             {"--observer", !flags.dynamic, as_they_come},
             {"--percentile", !flags.dynamic, as_they_come},
             {"--percentile", flags.observer == "percentile", "it is of --observer percentile"},
             {"--abits", flags.activations != "none", "--activations none leaves them in float"},
             {"--samples", data, of_data},
             {"--batch-size", data, of_data},
             {"--adaround-iterations", flags.adaround || judged,
              "it is of --adaround and --correct-until"},
             {"--valid", judged, "it is what --correct-until judges on"},
             {"--valid", !flags.correct_until.starts_with("sqnr"), "sqnr is taken on --data"},
             {"--valid-samples", !flags.validation.empty(), "there is no --valid"},
             {"--blank", qat || judged, "it is of --qat and --correct-until"},
             {"--qat-method", qat, of_qat},
             {"--qat-observe", qat && flags.qat_method == "ste", "it is of --qat-method ste"},
             {"--qat-distil", qat, of_qat},
             {"--qat-batch", qat, of_qat},
             {"--temperature", qat, of_qat},
             {"--optimizer", qat, of_qat},
             {"--lr", qat, of_qat},
             {"--weight-decay", qat, of_qat},
             {"--flip", qat, of_qat},
             {"--shift", qat, of_qat},
             {"--crop-pad", qat, of_qat},
             {"--opset", !flags.output.ends_with(".plk"), "only an .onnx file has one"}});
}

void simplify_for_quantization(graph::Graph& graph) {
  graph::SimplifyOptions options;
  options.evaluate = exec::evaluate_node;
  options.fuse_attention = false;
  graph::simplify(graph, options);
}

void quantize_network_file(const QuantizeNetworkFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  quantize::NetworkOptions options = options_of(flags);
  const bool as_package = is_package_name(flags.output, "quantize");
  check_output(flags.model, flags.output);
  check_samples_given(flags, options);
  import::OnnxNetwork network = load_network(flags.model);
  simplify_for_quantization(network.graph);
  const graph::Graph original = network.graph;
  std::optional<CalibrationData> data;
  if (!flags.calibration.data.empty())
    data.emplace(original, flags.model, flags.calibration, static_cast<uint64_t>(flags.seed));
  const calib::Batches batches = data ? data->batches() : nullptr;
  std::optional<BudgetJudge> judge;
  if (!flags.correct_until.empty()) options.correction = judge.emplace(original, flags).budget();
  std::optional<QatData> training;
  if (options.qat) training.emplace(original, flags);
  const quantize::NetworkReport report =
      quantize::quantize_network(network.graph, options, data ? &batches : nullptr,
                                 training ? &training->training() : nullptr);
  for (const std::string& notice : report.notices)
    std::fprintf(stderr, "note: %s\n", notice.c_str());
  Json recipe = quantize::options_to_json(options);
  recipe["seed"] = flags.seed;
  recipe["threads"] = flags.threads;
  if (data) {
    recipe["data"] = name_of(flags.calibration.data);
    recipe["samples"] = data->samples();
    recipe["batch_size"] = data->batch_size();
  }
  if (judge) recipe["correct_until"] = flags.correct_until;
  quantize::add_repairs(report, recipe);
  if (training) training->describe(recipe["qat"]);
  NetworkOutput output{flags.output, flags.model, as_package, recipe, flags.opset};
  output.opset_given = flags.opset_given;
  output.weights = deploy::OnnxWeights::kQdq;
  output.preprocess = flags.calibration.preprocess;
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
  } else {
    print_layers(report);
    if (judge) print_repairs(*report.correction, judge->unit());
    print_output_error(report);
    fmt::print("{}: {:.2f} MB, {}{}, {:.0f} s, peak memory {:.0f} MB\n", flags.output,
               static_cast<double>(written.bytes) / 1e6, quantize::precisions_of(report),
               work_text(report, as_package ? flags.output : ""), seconds, peak_rss_mb());
  }
  if (!judge || report.correction->met()) return;
  fail(ErrorCode::kInvalidArgument,
       "[quantize] --correct-until '{}' is not met: '{}', which was written, is at {:.3f} ({}) "
       "after "
       "every repair",
       flags.correct_until, flags.output, report.correction->after, judge->unit());
}

}  // namespace packlight::cli

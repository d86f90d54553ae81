#include "cli/compress/prune.h"

#include <algorithm>
#include <memory>
#include <thread>

#include "base/fail.h"
#include "cli/compress/network_flags.h"
#include "cli/compress/output.h"
#include "cli/verbs.h"
#include "exec/executor.h"
#include "io/hf_folder.h"

namespace packlight::cli {
namespace {

void check_prune_flags(const CLI::App& verb, const PruneFlags& flags) {
  const bool units = prunes_units(flags), blocks = flags.method == "depth",
             network = io::is_network(io::detect_model_kind(flags.model));
  if (network && !units) {
    fail(ErrorCode::kUnsupported,
         "[prune] '{}' is a network: --method {} takes language models, structured and heads take "
         "both",
         flags.model, flags.method);
  }
  const char *of_units = "it is of --method structured, heads, ffn, kv and width",
             *of_weights = "it is of --method unstructured and N:M",
             *not_of_blocks = "it is not of --method depth", *of_networks = "it is a network's",
             *of_language_models = "it is a language model's";
  refuse_idle_flags(verb, {{"--target-params", units, of_units},
                           {"--target-bytes", units, of_units},
                           {"--target-macs", units, of_units},
                           {"--keep-multiple", units, of_units},
                           {"--least", units, of_units},
                           {"--within", !units && !blocks, of_weights},
                           {"--damping", !blocks, not_of_blocks},
                           {"--undo-drift", !blocks, not_of_blocks},
                           {"--spread", !blocks, not_of_blocks},
                           {"--protect", !blocks, not_of_blocks},
                           {"--calib", !network, of_language_models},
                           {"--calib-tokens", !network, of_language_models},
                           {"--max-ram", !network, of_language_models},
                           {"--data", network, of_networks},
                           {"--preprocess", network, of_networks},
                           {"--samples", network, of_networks},
                           {"--batch-size", network, of_networks},
                           {"--input-shape", network, of_networks},
                           {"--opset", network, of_networks}});
  const auto is_one_of = [](const std::string& word, std::initializer_list<const char*> words) {
    return word.empty() || std::find(words.begin(), words.end(), word) != words.end();
  };
  if (units ? !is_one_of(flags.spread, {"global", "uniform"})
            : !is_one_of(flags.spread, {"uniform", "owl"}))
    fail(ErrorCode::kInvalidArgument, "[prune] --spread {} is not for --method {}: {}",
         flags.spread, flags.method, units ? "global, uniform" : "uniform, owl");
  if (units && !is_one_of(flags.repair, {"obs", "none"}))
    fail(ErrorCode::kInvalidArgument, "[prune] --repair {} is not for --method {}: obs, none",
         flags.repair, flags.method);
}

void add_weight_flags(CLI::App& verb, PruneFlags& flags) {
  verb.add_option("--within", flags.within,
                  "unstructured: compare weights of a row, or of the whole matrix; as the "
                  "criterion's paper does unless given")
      ->check(CLI::IsMember({"row", "matrix"}));
  verb.add_option(
          "--undo-drift", flags.undo_drift,
          "share of what pruning earlier layers changed that a layer is fitted to undo, 0 to "
          "1; default: 0 for --repair none and for units of language models, else 1")
      ->check(CLI::Range(0.0, 1.0));
  verb.add_option("--damping", flags.damping,
                  "added to the diagonal of the inputs' Hessian, in parts of its mean")
      ->capture_default_str();
}

void add_unit_flags(CLI::App& verb, PruneFlags& flags) {
  verb.add_option("--target-params", flags.target_params,
                  "structured: parameters of the whole model that are left at most")
      ->check(CLI::PositiveNumber);
  verb.add_option("--target-bytes", flags.target_bytes,
                  "structured: bytes of its weights (such as 4M)")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::PositiveNumber);
  verb.add_option("--target-macs", flags.target_macs,
                  "structured: multiply-accumulates of a sample or token (such as 150M)")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::PositiveNumber);
  verb.add_option(
          "--keep-multiple", flags.multiple,
          "structured: what is left of a group is a multiple of this; 0: 8 for 32 channels or more")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--least", flags.least, "structured: units that stay in a group")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void add_sample_flags(CLI::App& verb, PruneFlags& flags) {
  verb.add_option("--calib", flags.calib, "language models: text file to calibrate on");
  verb.add_option("--calib-tokens", flags.calib_tokens,
                  "tokens of calibration, in windows of 512 spread over the text")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 32))
      ->capture_default_str();
  verb.add_option("--max-ram", flags.max_ram_bytes,
                  "memory for calibration's hidden states (such as 500M or 2G); the rest goes to a "
                  "temporary file")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("1G");
  add_calibration_flags(verb, flags.calibration);
  verb.add_option("--input-shape", flags.input_shapes,
                  "networks: NAME=1,3,48,320 that multiply-accumulates are counted for; default: "
                  "the first sample's");
  verb.add_option("--opset", flags.opset, "networks: of the ONNX file, 13 to 23")
      ->check(CLI::Range(13, 23))
      ->capture_default_str();
}

constexpr const char* kExamples =
    "Embedding, head and what --protect names stay whole. `packlight inspect --groups` lists what "
    "may go.\n"
    "Examples:\n"
    "  packlight prune model.gguf -o pruned --method unstructured --ratio 0.5 --calib text.txt\n"
    "  packlight prune folder/ -o pruned.gguf --method 2:4 --calib text.txt --calib-tokens 65536\n"
    "  packlight prune model.gguf -o pruned --method 2:4 --repair obs --undo-drift 0 --calib "
    "text.txt    (SparseGPT)\n"
    "  packlight prune model.gguf -o pruned --method unstructured --ratio 0.3 --criterion "
    "magnitude \\\n"
    "      --protect 'model.layers.0.*' --protect '*.down_proj.weight'\n"
    "  packlight prune model.gguf -o smaller.gguf --method structured --ratio 0.2 --calib "
    "text.txt\n"
    "  packlight prune model.gguf -o shallower.gguf --method depth --ratio 0.1 --criterion "
    "perplexity --calib text.txt --calib-tokens 2048\n"
    "  packlight prune network.onnx -o smaller.onnx --method structured --target-macs 150M --data "
    "photos";

}  // namespace

void add_prune(CLI::App& app) {
  auto flags = std::make_shared<PruneFlags>();
  CLI::App* verb = app.add_subcommand(
      "prune", "Remove what matters least: channels, heads and neurons, or single weights");
  verb->add_option("MODEL", flags->model, "GGUF file, Hugging Face folder, or ONNX network")
      ->required();
  verb->add_option(
          "-o,--output", flags->output,
          "a .gguf file or a Hugging Face folder (any other name); of a network .onnx or .plk")
      ->required();
  verb->add_option("--method", flags->method,
                   "structured: whole channels, neurons and heads; ffn, heads, kv, width: those "
                   "alone; depth: whole blocks of a language model; unstructured: zeros anywhere; "
                   "N:M (2:4, 4:8, ...): N of every M neighbours stay")
      ->required();
  verb->add_option("--ratio", flags->ratio,
                   "share that goes, between 0 and 1: of the weights, or (structured) of the "
                   "parameters that could go");
  verb->add_option(
      "--criterion", flags->criterion,
      "what goes: the smallest by this score; random is the control. Weights: obs (the "
      "default), wanda, magnitude; units: obs (of networks), kfac (of language models), "
      "taylor, fisher, flap, wanda, l1, l2, bn; blocks: influence (the default), perplexity");
  verb->add_option("--spread", flags->spread,
                   "uniform: every matrix or group loses the same share; owl (weights): blocks "
                   "with more outliers lose less; "
                   "global (units, their default): the least score for what it saves, wherever");
  verb->add_option("--repair", flags->repair,
                   "none: what stays is as it was; obs: it makes up for what goes (weights: "
                   "SparseGPT; units: fitted layer by layer, "
                   "their default); admm (weights): mask and weights are found "
                   "together, which is slower and better, the "
                   "default of --criterion obs")
      ->check(CLI::IsMember({"none", "obs", "admm"}));
  verb->add_option("--protect", flags->protect,
                   "what stays whole: layers by their weight's name, groups by their own or a "
                   "weight's; a glob; may be repeated")
      ->allow_extra_args(false);
  add_unit_flags(*verb, *flags);
  add_weight_flags(*verb, *flags);
  add_sample_flags(*verb, *flags);
  verb->add_option("--seed", flags->seed, "of --criterion random and of the samples")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--threads", flags->threads, "0: one per processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  verb->add_flag(
      "--json", flags->json,
      "a report for machines on standard output: per layer the weights kept, and relative_error, "
      "the squared error of its "
      "outputs on the calibration text in parts of their square; per group the units kept");
  verb->footer(kExamples);
  verb->callback([=] {
    check_output(flags->model, flags->output);
    check_prune_flags(*verb, *flags);
    if (flags->criterion.empty()) {
      const bool network = io::is_network(io::detect_model_kind(flags->model));
      flags->criterion = flags->method == "depth"           ? "influence"
                         : prunes_units(*flags) && !network ? "kfac"
                                                            : "obs";
    }
    exec::initialise(flags->threads > 0
                         ? flags->threads
                         : static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
    if (flags->method == "depth") return prune_blocks(*flags);
    return prunes_units(*flags) ? prune_units(*flags) : prune_weights(*flags);
  });
}

}  // namespace packlight::cli

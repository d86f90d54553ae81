#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "base/json.h"
#include "calib/calibration_tokens.h"
#include "cli/compress/prune.h"
#include "cli/peak_memory.h"
#include "deploy/folder_output.h"
#include "deploy/gguf_writer.h"
#include "deploy/hf_writer.h"
#include "exec/executor.h"
#include "import/import.h"
#include "prune/prune_model.h"

namespace packlight::cli {
namespace {

constexpr int64_t kPruneWindow = 512;

prune::Repair parse_repair(const std::string& text, std::string_view criterion) {
  if (text.empty()) return criterion == "obs" ? prune::Repair::kAdmm : prune::Repair::kNone;
  return text == "obs" ? prune::Repair::kObs : text == "admm" ? prune::Repair::kAdmm : prune::Repair::kNone;
}

double pruned_ratio(const PruneFlags& flags, const prune::Pattern& pattern) {
  if (!pattern.is_structured()) {
    if (!flags.ratio)
      fail(ErrorCode::kInvalidArgument, "[prune] --method unstructured needs --ratio, the share of weights to remove");
    return *flags.ratio;
  }
  if (flags.ratio) {
    fail(ErrorCode::kInvalidArgument, "[prune] --ratio {}: --method {} removes {} of the weights, no other share", *flags.ratio,
         flags.method, pattern.ratio());
  }
  return pattern.ratio();
}

prune::PruneOptions make_prune_options(const PruneFlags& flags) {
  prune::PruneOptions options;
  options.method.pattern = graph::parse_zero_pattern(flags.method);
  options.ratio = pruned_ratio(flags, options.method.pattern);
  options.method.criterion = prune::make_criterion(flags.criterion, static_cast<uint64_t>(flags.seed));
  options.method.repair = parse_repair(flags.repair, flags.criterion);
  options.method.damping = flags.damping;
  if (!flags.within.empty()) options.method.scope = flags.within == "row" ? prune::Scope::kRow : prune::Scope::kMatrix;
  options.spread = flags.spread == "owl" ? prune::Spread::kOwl : prune::Spread::kUniform;
  options.undo_drift = flags.undo_drift.value_or(options.method.repair == prune::Repair::kNone ? 0 : 1);
  options.protect = flags.protect;
  options.max_ram_bytes = flags.max_ram_bytes;
  options.output = flags.output;
  options.notice = [](const std::string& text) { std::fprintf(stderr, "Notice: %s.\n", text.c_str()); };
  if (!prune::needs_calibration(options) && !flags.calib.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[prune] --calib is without effect: --criterion {} without --repair looks at the weights alone", flags.criterion);
  }
  if (prune::needs_calibration(options) && flags.calib.empty()) {
    fail(ErrorCode::kInvalidArgument, "[prune] --criterion {} needs --calib FILE, a text like those the model will read",
         flags.criterion);
  }
  return options;
}

calib::CalibrationTokens pruning_tokens(const import::LanguageModel& model, const PruneFlags& flags) {
  if (!model.tokenizer)
    fail(ErrorCode::kUnsupported, "[prune] '{}': the model has no tokenizer, so no text can calibrate it", flags.model);
  const int64_t positions = model.config.max_positions;
  const int64_t window = positions > 0 ? std::min(kPruneWindow, positions) : kPruneWindow;
  calib::TextTokens text = calib::tokens_from_text(flags.calib, *model.tokenizer, flags.calib_tokens, window);
  if (text.tokens_in_text < flags.calib_tokens) {
    std::fprintf(stderr, "'%s' has %lld tokens, fewer than the %lld asked for: all are used.\n", flags.calib.c_str(),
                 static_cast<long long>(text.tokens_in_text), static_cast<long long>(flags.calib_tokens));
  }
  return std::move(text.tokens);
}

// Before hours of work, not after them. Errors: those of the writers for a place that cannot be written.
void check_place(const std::filesystem::path& output, bool gguf) {
  if (gguf) {
    const base::AtomicFile unused(output);
  } else {
    const deploy::FolderOutput unused(output);
  }
}

void report_pruning(const PruneFlags& flags, const std::vector<prune::LayerReport>& layers, double seconds) {
  int64_t kept = 0, total = 0;
  for (const auto& layer : layers) kept += layer.kept, total += layer.rows * layer.cols;
  const double share = 1 - static_cast<double>(kept) / static_cast<double>(total);
  if (!flags.json) {
    fmt::print("{}: {:.2f} % of {} weights in {} layers are zero, {:.0f} s, peak memory {:.0f} MB\n", flags.output, 100 * share,
               total, layers.size(), seconds, peak_rss_mb());
    return;
  }
  Json json = {
      {"output", flags.output}, {"method", flags.method}, {"criterion", flags.criterion}, {"weights", total},
      {"kept", kept},           {"ratio", share},         {"seconds", seconds},           {"peak_rss_mb", peak_rss_mb()}};
  for (const auto& layer : layers) {
    Json entry = {{"name", layer.name}, {"rows", layer.rows}, {"cols", layer.cols}, {"kept", layer.kept}, {"ratio", layer.ratio}};
    if (layer.relative_error) entry["relative_error"] = *layer.relative_error;
    json["layers"].push_back(std::move(entry));
  }
  fmt::print("{}\n", json.dump(2));
}

}  // namespace

void prune_language_model_file(const PruneFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  const std::string extension = std::filesystem::path(flags.output).extension().string();
  if (extension == ".plk" || extension == ".onnx" || extension == ".safetensors") {
    fail(ErrorCode::kUnsupported, "[prune] '{}': a pruned language model is written as a .gguf file or a Hugging Face folder{}",
         flags.output, extension == ".plk" ? "; 'packlight quantize' makes packages of those" : "");
  }
  const prune::PruneOptions options = make_prune_options(flags);
  const bool gguf = extension == ".gguf";
  exec::initialise(flags.threads);
  import::LanguageModel model = import::load_language_model(flags.model);
  check_place(flags.output, gguf);
  calib::CalibrationTokens tokens;
  if (prune::needs_calibration(options)) tokens = pruning_tokens(model, flags);
  const auto layers = prune::prune_language_model(model, &tokens, options);
  if (gguf) {
    deploy::write_gguf_model(model, flags.output);
  } else {
    deploy::write_hf_folder(model, flags.output);
  }
  report_pruning(flags, layers, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

void add_prune_flags(CLI::App& verb, PruneFlags& flags) {
  verb.add_option("MODEL", flags.model, "GGUF file or Hugging Face folder")->required();
  verb.add_option("-o,--output", flags.output, "a .gguf file, or a Hugging Face folder by any other name")->required();
  verb.add_option("--method", flags.method, "unstructured: zeros anywhere; N:M (2:4, 4:8, ...): N of every M neighbours stay")
      ->required();
  verb.add_option("--ratio", flags.ratio, "unstructured: share of the weights to remove, between 0 and 1");
  verb.add_option("--criterion", flags.criterion, "which weights go: the smallest by this score; random is the control")
      ->check(CLI::IsMember(prune::criterion_names()))
      ->capture_default_str();
  verb.add_option("--within", flags.within,
                  "compare weights of a row, or of the whole matrix; as the criterion's paper does unless given")
      ->check(CLI::IsMember({"row", "matrix"}));
  verb.add_option("--spread", flags.spread,
                  "uniform: every matrix loses the same share; owl: blocks with more outliers lose less")
      ->check(CLI::IsMember({"uniform", "owl"}))
      ->capture_default_str();
  verb.add_option(
          "--repair", flags.repair,
          "none: the weights that stay are as they were; obs: they make up for what goes, column by column (SparseGPT); admm: "
          "mask and "
          "weights are found together, which is slower and better. Unless given: admm for --criterion obs, none for others")
      ->check(CLI::IsMember({"none", "obs", "admm"}));
  verb.add_option("--undo-drift", flags.undo_drift,
                  "share of what pruning earlier layers changed that a layer is fitted to undo, 0 to 1; 1 unless given, and 0 "
                  "for --repair none");
  verb.add_option("--damping", flags.damping, "added to the diagonal of the inputs' Hessian, in parts of its mean")
      ->capture_default_str();
  verb.add_option("--calib", flags.calib, "text file to calibrate on");
  verb.add_option("--calib-tokens", flags.calib_tokens, "tokens of calibration, in windows of 512 spread over the text")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 32))
      ->capture_default_str();
  verb.add_option("--protect", flags.protect, "layers whose weight's name matches the glob stay as they are; may be repeated")
      ->allow_extra_args(false);
  verb.add_option("--seed", flags.seed, "of --criterion random")->check(CLI::NonNegativeNumber)->capture_default_str();
  verb.add_option("--max-ram", flags.max_ram_bytes,
                  "memory for calibration's hidden states (such as 500M or 2G); the rest goes to a temporary file")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("1G");
  verb.add_option("--threads", flags.threads, "0: one per processor")->check(CLI::Range(0, 1024))->capture_default_str();
  verb.add_flag(
      "--json", flags.json,
      "a report for machines on standard output: per layer the weights kept, and relative_error, the squared error of its "
      "outputs on the calibration text in parts of their square");
  verb.footer(
      "The embedding and the head stay whole.\n"
      "Examples:\n"
      "  packlight prune model.gguf -o pruned --method unstructured --ratio 0.5 --calib text.txt\n"
      "  packlight prune folder/ -o pruned.gguf --method 2:4 --calib text.txt --calib-tokens 65536\n"
      "  packlight prune model.gguf -o pruned --method 2:4 --repair obs --undo-drift 0 --calib text.txt    (SparseGPT)\n"
      "  packlight prune model.gguf -o pruned --method unstructured --ratio 0.3 --criterion magnitude \\\n"
      "      --protect 'model.layers.0.*' --protect '*.down_proj.weight'");
}

}  // namespace packlight::cli

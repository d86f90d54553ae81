#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "base/fail.h"
#include "base/json.h"
#include "calib/calibration_tokens.h"
#include "cli/compress/prune.h"
#include "cli/peak_memory.h"
#include "import/import.h"
#include "prune/prune_model.h"

namespace packlight::cli {
namespace {

constexpr int64_t kPruneWindow = 512;

prune::Repair parse_repair(const std::string& text, std::string_view criterion) {
  if (text.empty()) return criterion == "obs" ? prune::Repair::kAdmm : prune::Repair::kNone;
  return text == "obs"    ? prune::Repair::kObs
         : text == "admm" ? prune::Repair::kAdmm
                          : prune::Repair::kNone;
}

double pruned_ratio(const PruneFlags& flags, const prune::Pattern& pattern) {
  if (!pattern.is_structured()) {
    if (!flags.ratio)
      fail(ErrorCode::kInvalidArgument,
           "[prune] --method unstructured needs --ratio, the share of weights to remove");
    return *flags.ratio;
  }
  if (flags.ratio) {
    fail(ErrorCode::kInvalidArgument,
         "[prune] --ratio {}: --method {} removes {} of the weights, no other share", *flags.ratio,
         flags.method, pattern.ratio());
  }
  return pattern.ratio();
}

prune::PruneOptions make_prune_options(const PruneFlags& flags) {
  prune::PruneOptions options;
  options.method.pattern = graph::parse_zero_pattern(flags.method);
  options.ratio = pruned_ratio(flags, options.method.pattern);
  options.method.criterion =
      prune::make_criterion(flags.criterion, static_cast<uint64_t>(flags.seed));
  options.method.repair = parse_repair(flags.repair, flags.criterion);
  options.method.damping = flags.damping;
  if (!flags.within.empty())
    options.method.scope = flags.within == "row" ? prune::Scope::kRow : prune::Scope::kMatrix;
  options.spread = flags.spread == "owl" ? prune::Spread::kOwl : prune::Spread::kUniform;
  options.undo_drift =
      flags.undo_drift.value_or(options.method.repair == prune::Repair::kNone ? 0 : 1);
  options.protect = flags.protect;
  options.max_ram_bytes = flags.max_ram_bytes;
  options.output = flags.output;
  options.notice = [](const std::string& text) {
    std::fprintf(stderr, "Notice: %s.\n", text.c_str());
  };
  if (!prune::needs_calibration(options) && !flags.calib.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[prune] --calib is without effect: --criterion {} without --repair looks at the weights "
         "alone",
         flags.criterion);
  }
  if (prune::needs_calibration(options) && flags.calib.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[prune] --criterion {} needs --calib FILE, a text like those the model will read",
         flags.criterion);
  }
  return options;
}

void report_pruning(const PruneFlags& flags, const std::vector<prune::LayerReport>& layers,
                    double seconds) {
  int64_t kept = 0, total = 0;
  for (const auto& layer : layers) kept += layer.kept, total += layer.rows * layer.cols;
  const double share = 1 - static_cast<double>(kept) / static_cast<double>(total);
  if (!flags.json) {
    fmt::print(
        "{}: {:.2f} % of {} weights in {} layers are zero, {:.0f} s, peak memory {:.0f} MB\n",
        flags.output, 100 * share, total, layers.size(), seconds, peak_rss_mb());
    return;
  }
  Json json = {{"output", flags.output},
               {"method", flags.method},
               {"criterion", flags.criterion},
               {"weights", total},
               {"kept", kept},
               {"ratio", share},
               {"seconds", seconds},
               {"peak_rss_mb", peak_rss_mb()}};
  for (const auto& layer : layers) {
    Json entry = {{"name", layer.name},
                  {"rows", layer.rows},
                  {"cols", layer.cols},
                  {"kept", layer.kept},
                  {"ratio", layer.ratio}};
    if (layer.relative_error) entry["relative_error"] = *layer.relative_error;
    json["layers"].push_back(std::move(entry));
  }
  fmt::print("{}\n", json.dump(2));
}

}  // namespace

calib::CalibrationTokens pruning_tokens(const import::LanguageModel& model,
                                        const PruneFlags& flags) {
  if (!model.tokenizer)
    fail(ErrorCode::kUnsupported,
         "[prune] '{}': the model has no tokenizer, so no text can calibrate it", flags.model);
  const int64_t positions = model.config.max_positions;
  const int64_t window = positions > 0 ? std::min(kPruneWindow, positions) : kPruneWindow;
  calib::TextTokens text =
      calib::tokens_from_text(flags.calib, *model.tokenizer, flags.calib_tokens, window);
  if (text.tokens_in_text < flags.calib_tokens) {
    std::fprintf(stderr, "'%s' has %lld tokens, fewer than the %lld asked for: all are used.\n",
                 flags.calib.c_str(), static_cast<long long>(text.tokens_in_text),
                 static_cast<long long>(flags.calib_tokens));
  }
  return std::move(text.tokens);
}

void prune_weights(const PruneFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  check_language_model_output(flags.output, "prune");
  const prune::PruneOptions options = make_prune_options(flags);
  import::LanguageModel model = import::load_language_model(flags.model);
  calib::CalibrationTokens tokens;
  if (prune::needs_calibration(options)) tokens = pruning_tokens(model, flags);
  const auto layers = prune::prune_language_model(model, &tokens, options);
  write_language_model(model, flags.output);
  report_pruning(flags, layers,
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace packlight::cli

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "base/fail.h"
#include "base/json.h"
#include "calib/token_stream.h"
#include "cli/compress/prune.h"
#include "cli/peak_memory.h"
#include "prune/remove_blocks.h"

namespace packlight::cli {
namespace {

constexpr int64_t kBatchTokens = 512;  // run together: their logits are

void check_flags(const PruneFlags& flags, prune::BlockCriterion criterion) {
  if (!flags.ratio || !(*flags.ratio > 0 && *flags.ratio < 1))
    fail(ErrorCode::kInvalidArgument,
         "[prune] --method depth needs --ratio, the share of blocks that goes, between 0 and 1");
  if (!flags.repair.empty() && flags.repair != "none")
    fail(ErrorCode::kInvalidArgument,
         "[prune] --repair {} is not for --method depth: nothing reads what a block leaves out "
         "(finetune recovers)",
         flags.repair);
  const bool needs_text = criterion != prune::BlockCriterion::kRandom;
  if (needs_text == flags.calib.empty())
    fail(ErrorCode::kInvalidArgument, "[prune] --criterion {} {} --calib", flags.criterion,
         needs_text ? "needs" : "makes no use of");
}

}  // namespace

void prune_blocks(const PruneFlags& flags) {
  const auto start = std::chrono::steady_clock::now();
  const prune::BlockCriterion criterion = prune::parse_block_criterion(flags.criterion);
  check_flags(flags, criterion);
  check_language_model_output(flags.output, "prune");
  import::LanguageModel model = import::load_language_model(flags.model);
  const int64_t layers = model.config.layers();
  std::vector<exec::Values> batches;
  if (!flags.calib.empty())
    batches = calib::token_values(model.graph, pruning_tokens(model, flags), kBatchTokens);
  const auto count = std::llround(*flags.ratio * static_cast<double>(layers));
  const std::vector<prune::BlockRemoval> removed =
      prune::remove_blocks(model, count, criterion, batches, static_cast<uint64_t>(flags.seed));
  write_language_model(model, flags.output);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!flags.json) {
    for (const prune::BlockRemoval& block : removed)
      fmt::print("layer {:>3} went, {} {:.5g}\n", block.layer, flags.criterion, block.score);
    fmt::print("{}: {} of {} blocks left, {:.0f} s, peak memory {:.0f} MB\n", flags.output,
               model.config.layers(), layers, seconds, peak_rss_mb());
    return;
  }
  Json json = {
      {"output", flags.output},        {"criterion", flags.criterion}, {"layers", layers},
      {"kept", model.config.layers()}, {"removed", Json::array()},     {"seconds", seconds},
      {"peak_rss_mb", peak_rss_mb()}};
  for (const prune::BlockRemoval& block : removed)
    json["removed"].push_back({{"layer", block.layer}, {"score", block.score}});
  fmt::print("{}\n", json.dump(2));
}

}  // namespace packlight::cli

#include "cli/compress/budget_judge.h"

#include <cmath>
#include <cstdlib>

#include "base/fail.h"
#include "cli/compress/network_flags.h"
#include "eval/classification.h"

namespace packlight::cli {
namespace {

constexpr int64_t kUsualJudgedBatch = 256;

double goal_of(const std::string& text, const std::string& kind) {
  const char* from = text.c_str() + std::min(text.size(), kind.size() + 1);
  char* end = nullptr;
  const double number = std::strtod(from, &end);
  const bool known = kind == "sqnr" || kind == "top1" || kind == "agreement";
  const bool fits = std::isfinite(number) && (kind == "sqnr" || number >= 0) &&
                    (kind != "agreement" || number <= 1);
  if (!known || end == from || *end != 0 || !fits) {
    fail(ErrorCode::kInvalidArgument,
         "[quantize] --correct-until '{}': it must be sqnr=DB, top1=POINTS (lost at most) or "
         "agreement=SHARE (0 to 1)",
         text);
  }
  return kind == "top1" ? -number : number;
}

eval::TaskOptions judging(const QuantizeNetworkFlags& flags) {
  eval::TaskOptions options;
  options.quiet = true;
  options.ctc_blank = flags.blank;
  options.most_samples = flags.validation_samples;
  return options;
}

}  // namespace

BudgetJudge::BudgetJudge(const graph::Graph& original, const QuantizeNetworkFlags& flags)
    : original_(original),
      flags_(flags),
      kind_(flags.correct_until.substr(0, flags.correct_until.find('='))) {
  budget_.goal = goal_of(flags.correct_until, kind_);
  if (kind_ == "sqnr") return;
  if (flags.validation.empty()) {
    fail(ErrorCode::kInvalidArgument, "[quantize] --correct-until '{}' needs --valid",
         flags.correct_until);
  }
  const bool classes = kind_ == "top1";
  dataset_ = open_samples(
      original, flags.validation, flags.model, flags.calibration.preprocess,
      classes ? std::optional(data::LabelKind::kClass) : std::optional(data::LabelKind::kNone),
      /*held_out=*/true);
  if (classes) {
    exact_ = top1(original);
    budget_.measure = [this](const graph::Graph& graph) { return 100 * (top1(graph) - exact_); };
    return;
  }
  data::Loader loader(dataset_, loading());
  readings_ = eval::readings_of(eval::graph_subject(original), loader, judging(flags));
  if (readings_.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[quantize] --correct-until agreement: the first output of '{}' is not several scores "
         "a sample, so there is no class or reading to agree on",
         original.name);
  }
  budget_.measure = [this](const graph::Graph& graph) { return agreement(graph); };
}

std::string BudgetJudge::unit() const {
  if (kind_ == "sqnr") return "dB";
  return kind_ == "top1" ? "points of top-1 beside the float network"
                         : "share read as the float network reads it";
}

double BudgetJudge::top1(const graph::Graph& graph) const {
  data::Loader loader(dataset_, loading());
  return eval::evaluate_task(eval::graph_subject(graph), nullptr, loader, judging(flags_))
      .top1->value;
}

double BudgetJudge::agreement(const graph::Graph& graph) const {
  data::Loader loader(dataset_, loading());
  eval::TaskOptions options = judging(flags_);
  options.original_readings = &readings_;
  const auto report = eval::evaluate_task(eval::graph_subject(graph), nullptr, loader, options);
  // Codes may drive an output out of what scores are; it agrees with nothing then.
  return report.agreement ? report.agreement->value : 0;
}

data::LoaderOptions BudgetJudge::loading() const {
  return loading_for(original_, *dataset_, flags_.calibration.batch_size, kUsualJudgedBatch);
}

}  // namespace packlight::cli

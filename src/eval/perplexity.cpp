#include "eval/perplexity.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>

#include "base/fail.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "eval/row_scores.h"

namespace packlight::eval {
namespace {

using text::TokenId;
using Clock = std::chrono::steady_clock;

// Logits held at once. The head's product wants many rows; 64 MB are 128 of a 128k vocabulary.
constexpr int64_t kLogitBytes = int64_t{64} << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What one prediction contributes.
struct Prediction {
  double nll = 0, original_nll = 0, divergence = 0;
  bool same_top = false;
};

class Measurement {
 public:
  Measurement(LogitSource& model, LogitSource* original, const PerplexityOptions& options)
      : model_(model), original_(original), options_(options), pool_(options.threads) {}

  // Scores the predictions of one window, from position `first` to the last but one.
  void window(int64_t index, std::span<const TokenId> tokens, int64_t first, int64_t chunk) {
    const int64_t end = static_cast<int64_t>(tokens.size()) - 1;
    const int64_t at_once = std::max<int64_t>(1, kLogitBytes / (model_.vocab_size() * sizeof(float)));
    for (int64_t begin = first; begin < end; begin += at_once) {
      const int64_t stop = std::min(begin + at_once, end);
      const auto start = Clock::now();
      const std::span<const float> logits = model_.rows(index, begin, stop);
      model_seconds += seconds_since(start);
      std::span<const float> base;
      if (original_) base = original_->rows(index, begin, stop);
      score(logits, base, tokens.subspan(begin + 1, stop - begin), begin, chunk);
    }
  }

  void begin(std::span<const TokenId> windows, int64_t first) {
    const auto start = Clock::now();
    model_.begin(windows, options_.context, first);
    model_seconds += seconds_since(start);
    if (original_) original_->begin(windows, options_.context, first);
  }

  PerplexityReport report() const {
    PerplexityReport r;
    r.perplexity = likelihood_.exp_mean_x();
    r.scored_tokens = likelihood_.count();
    if (original_) {
      r.base_perplexity = likelihood_.exp_mean_y();
      r.perplexity_ratio = likelihood_.exp_difference();
      r.kl_divergence = divergence_.mean_x();
      r.top1_agreement = share(same_top_, likelihood_.count());
    }
    return r;
  }

  double model_seconds = 0;

 private:
  void score(std::span<const float> logits, std::span<const float> base, std::span<const TokenId> targets,
             int64_t position, int64_t chunk) {
    const auto vocab = static_cast<size_t>(model_.vocab_size());
    predictions_.resize(targets.size());
    std::atomic<size_t> next{0};
    pool_.run([&](int) {
      for (size_t i; (i = next.fetch_add(1)) < targets.size();) {
        predictions_[i] = predict(logits.subspan(i * vocab, vocab),
                                  base.empty() ? base : base.subspan(i * vocab, vocab), targets[i]);
      }
    });
    for (size_t i = 0; i < predictions_.size(); ++i) {
      const Prediction& p = predictions_[i];
      if (!std::isfinite(p.nll) || !std::isfinite(p.original_nll) || !std::isfinite(p.divergence)) {
        const bool originals = std::isfinite(p.nll);
        (originals ? *original_ : model_).check_weights();
        fail(ErrorCode::kCorrupt, "[eval] chunk {}, position {}: the {} logits are not all finite numbers", chunk,
             position + static_cast<int64_t>(i), originals ? "original's" : "model's");
      }
      likelihood_.add(p.nll, p.original_nll);
      divergence_.add(p.divergence);
      same_top_ += p.same_top;
    }
  }

  static Prediction predict(std::span<const float> logits, std::span<const float> base, TokenId target) {
    const RowScore score = score_row(logits);
    Prediction p;
    p.nll = score.log_sum - logits[target];
    if (base.empty()) return p;
    const RowScore base_score = score_row(base);
    p.original_nll = base_score.log_sum - base[target];
    p.divergence = kl_divergence_row(base, base_score.log_sum, logits, score.log_sum);
    p.same_top = score.top == base_score.top;
    return p;
  }

  LogitSource& model_;
  LogitSource* original_;
  const PerplexityOptions& options_;
  base::ThreadPool pool_;
  std::vector<Prediction> predictions_;
  PairedMoments likelihood_, divergence_;
  int64_t same_top_ = 0;
};

int64_t checked_chunks(const LogitSource& model, const LogitSource* original, std::span<const TokenId> tokens,
                       const PerplexityOptions& options) {
  if (options.context < 4 || options.chunks < 0) {
    fail(ErrorCode::kInvalidArgument, "[eval] context {} and chunks {}: context must be at least 4, chunks at least 0",
         options.context, options.chunks);
  }
  if (original && original->vocab_size() != model.vocab_size()) {
    fail(ErrorCode::kInvalidArgument, "[eval] the vocabularies differ: the model has {} tokens, the original {}",
         model.vocab_size(), original->vocab_size());
  }
  const int64_t available = static_cast<int64_t>(tokens.size()) / options.context;
  if (available == 0) {
    fail(ErrorCode::kInvalidArgument, "[eval] the text has {} tokens, fewer than one chunk of {} (see --ctx)",
         tokens.size(), options.context);
  }
  for (const TokenId t : tokens) {
    if (t < 0 || t >= model.vocab_size()) {
      fail(ErrorCode::kInvalidArgument, "[eval] token {} is not in the model's vocabulary of {}", t, model.vocab_size());
    }
  }
  return options.chunks == 0 ? available : std::min(options.chunks, available);
}

}  // namespace

PerplexityReport measure_perplexity(LogitSource& model, LogitSource* original, std::span<const TokenId> tokens,
                                    const PerplexityOptions& options) {
  const auto start = Clock::now();
  const int64_t chunks = checked_chunks(model, original, tokens, options), context = options.context;
  const int64_t first = context / 2;
  Measurement measurement(model, original, options);
  base::Progress progress("Evaluating", static_cast<uint64_t>(chunks));
  int64_t at_once = model.windows_per_pass();
  if (original) at_once = std::max(at_once, original->windows_per_pass());
  for (int64_t chunk = 0; chunk < chunks; chunk += at_once) {
    const int64_t count = std::min(at_once, chunks - chunk);
    const auto begin = tokens.begin() + chunk * context;
    std::vector<TokenId> windows(begin, begin + count * context);
    const std::vector<TokenId> targets = windows;
    for (int64_t w = 0; options.bos >= 0 && w < count; ++w) windows[w * context] = options.bos;
    measurement.begin(windows, first);
    for (int64_t w = 0; w < count; ++w) {
      measurement.window(w, std::span(targets).subspan(w * context, context), first, chunk + w);
      progress.advance();
    }
  }
  PerplexityReport report = measurement.report();
  report.chunks = chunks;
  report.tokens = chunks * context;
  report.seconds = seconds_since(start);
  report.model_seconds = measurement.model_seconds;
  return report;
}

std::vector<TokenId> tokens_of_file(const std::filesystem::path& path, const text::Tokenizer& tokenizer) {
  std::string text = base::read_text_file(path);
  base::check_is_text(text, path);
  if (!text.empty() && text.back() == '\n') text.pop_back();
  std::vector<TokenId> tokens;
  if (!text.empty()) tokens = tokenizer.encode(text);
  if (tokens.empty()) fail(ErrorCode::kInvalidArgument, "[eval] '{}': the text has no tokens", path.string());
  return tokens;
}

}  // namespace packlight::eval

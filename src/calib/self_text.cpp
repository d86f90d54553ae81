#include "calib/self_text.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/fail.h"

namespace packlight::calib {
namespace {

// The standard engines are the same everywhere; the standard distributions are not, so these are our own.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  double unit() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }  // [0, 1)
  size_t below(size_t n) { return std::min(n - 1, static_cast<size_t>(unit() * static_cast<double>(n))); }

 private:
  std::mt19937_64 engine_;
};

class Sampler {
 public:
  Sampler(int64_t vocab, int top_k) : order_(vocab), top_k_(std::min<int64_t>(top_k, vocab)) {}

  text::TokenId draw(std::span<const float> logits, Random& random) {
    order_.resize(logits.size());
    std::iota(order_.begin(), order_.end(), 0);
    // Ties go to the lower id, so that the order is one.
    const auto likelier = [&](int32_t a, int32_t b) {
      return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    };
    std::nth_element(order_.begin(), order_.begin() + top_k_ - 1, order_.end(), likelier);
    std::sort(order_.begin(), order_.begin() + top_k_, likelier);
    const double top = logits[order_[0]];
    double sum = 0;
    for (int64_t i = 0; i < top_k_; ++i) sum += std::exp(logits[order_[i]] - top);
    double left = random.unit() * sum;
    for (int64_t i = 0; i < top_k_; ++i) {
      left -= std::exp(logits[order_[i]] - top);
      if (left < 0) return order_[i];
    }
    return order_[0];
  }

 private:
  std::vector<int32_t> order_;
  int64_t top_k_;
};

std::vector<text::TokenId> normal_tokens(const text::Tokenizer& tokenizer, int64_t vocab) {
  std::vector<text::TokenId> out;
  for (int64_t id = 0; id < std::min(vocab, tokenizer.vocab_size()); ++id) {
    if (tokenizer.kind(static_cast<text::TokenId>(id)) == text::TokenKind::kNormal) {
      out.push_back(static_cast<text::TokenId>(id));
    }
  }
  if (out.empty()) fail(ErrorCode::kInvalidArgument, "[calib] the vocabulary has no normal token to start a text with");
  return out;
}

}  // namespace

CalibrationTokens write_own_text(runtime::Decoder& decoder, const text::Tokenizer& tokenizer, const SelfTextOptions& options,
                                 const std::function<void(int64_t)>& on_tokens) {
  const int64_t window = options.window, vocab = decoder.config().vocab_size;
  if (options.tokens < 1 || window < 2 || decoder.options().context < window) {
    fail(ErrorCode::kInvalidArgument, "[calib] {} tokens in windows of {} with a context of {}", options.tokens, window,
         decoder.options().context);
  }
  const std::vector<text::TokenId> starts = normal_tokens(tokenizer, vocab);
  const std::vector<int64_t>& ends = decoder.config().eos_tokens;
  const bool with_bos = tokenizer.adds_bos() && tokenizer.bos() >= 0;
  Random random(options.seed);
  Sampler sampler(vocab, options.top_k);
  CalibrationTokens out;
  out.window = window;
  for (int64_t left = options.tokens; left > 0;) {
    const auto sequences = static_cast<int>(std::min<int64_t>(decoder.options().sequences, (left + window - 1) / window));
    std::vector<std::vector<text::TokenId>> texts(sequences);
    for (int s = 0; s < sequences; ++s) {
      decoder.truncate(s, 0);
      if (with_bos) texts[s].push_back(tokenizer.bos());
      texts[s].push_back(starts[random.below(starts.size())]);
    }
    std::vector<runtime::DecoderToken> step;
    for (int s = 0; s < sequences; ++s) {
      for (size_t i = 0; i < texts[s].size(); ++i) step.push_back({texts[s][i], s, i + 1 == texts[s].size()});
    }
    while (static_cast<int64_t>(texts[0].size()) < window) {
      const std::span<const float> logits = decoder.forward(step);
      step.clear();
      for (int s = 0; s < sequences; ++s) {
        text::TokenId next = sampler.draw(logits.subspan(s * vocab, vocab), random);
        if (std::find(ends.begin(), ends.end(), texts[s].back()) != ends.end()) next = starts[random.below(starts.size())];
        texts[s].push_back(next);
        step.push_back({next, s, true});
      }
      if (on_tokens) on_tokens(sequences);
    }
    for (const auto& text : texts) {
      const int64_t taken = std::min(window, left);
      out.ids.insert(out.ids.end(), text.begin(), text.begin() + taken);
      left -= taken;
      if (left == 0) break;
    }
  }
  return out;
}

}  // namespace packlight::calib

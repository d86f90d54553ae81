#include "eval/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "packlight/error.h"

namespace packlight::eval {
namespace {

using text::TokenId;

// Logits that a formula of token and position gives, and a record of what was asked for.
class FormulaSource : public LogitSource {
 public:
  using Formula = float (*)(TokenId token, int64_t position, int64_t column);
  FormulaSource(int64_t vocab, Formula formula, int64_t at_once = 1)
      : vocab_(vocab), formula_(formula), at_once_(at_once) {}
  int64_t vocab_size() const override { return vocab_; }
  int64_t windows_per_pass() const override { return at_once_; }
  void begin(std::span<const TokenId> windows, int64_t length, int64_t first) override {
    windows_.assign(windows.begin(), windows.end());
    length_ = length;
    first_ = first;
    for (int64_t i = 0; i < static_cast<int64_t>(windows.size()); i += length) starts.push_back(windows[i]);
  }
  std::span<const float> rows(int64_t window, int64_t begin, int64_t end) override {
    EXPECT_GE(begin, first_);
    EXPECT_LT(end, length_);
    logits_.resize((end - begin) * vocab_);
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t c = 0; c < vocab_; ++c) {
        logits_[(p - begin) * vocab_ + c] = formula_(windows_[window * length_ + p], p, c);
      }
    }
    return logits_;
  }
  std::vector<TokenId> starts;

 private:
  int64_t vocab_;
  Formula formula_;
  int64_t at_once_, length_ = 0, first_ = 0;
  std::vector<TokenId> windows_;
  std::vector<float> logits_;
};

float flat(TokenId, int64_t, int64_t) { return 1; }
// Sure (by a factor e^3 each) that the next token is one more.
float successor(TokenId token, int64_t, int64_t column) { return column == token + 1 ? 3.f : 0.f; }

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Perplexity, OfAFlatModelIsTheVocabulary) {
  FormulaSource model(50, flat);
  const std::vector<TokenId> tokens(70, 7);
  const PerplexityReport r = measure_perplexity(model, nullptr, tokens, {.context = 16});
  EXPECT_NEAR(r.perplexity.value, 50, 50 * 1e-5);
  EXPECT_NEAR(r.perplexity.standard_error, 0, 1e-6);
  EXPECT_EQ(r.chunks, 4);
  EXPECT_EQ(r.tokens, 64);
  EXPECT_EQ(r.scored_tokens, 4 * 7);  // positions 8 .. 14
  EXPECT_FALSE(r.kl_divergence.has_value());
}

TEST(Perplexity, ScoresTheSecondHalfOfEachChunk) {
  FormulaSource model(20, successor);
  // Counting up; position 8 of the first chunk is followed by something else, and so is position 2, which is not scored.
  std::vector<TokenId> tokens = {0, 1, 2, 0, 4, 5, 6, 7, 8, 0, 10, 11, 12, 13, 14, 15};
  const PerplexityReport r = measure_perplexity(model, nullptr, tokens, {.context = 16});
  const double z = std::log(19 + std::exp(3.0));
  // Position 8 predicts 9 and sees 0; position 9 (token 0) predicts 1 and sees 10; the other five are right.
  const double mean = (2 * z + 5 * (z - 3)) / 7;
  EXPECT_NEAR(std::log(r.perplexity.value), mean, 1e-5);
  const double variance = (2 * z * z + 5 * (z - 3) * (z - 3)) / 7 - mean * mean;
  EXPECT_NEAR(r.perplexity.standard_error, std::exp(mean) * std::sqrt(variance / 6), 1e-4);
}

TEST(Perplexity, EachWindowHasItsOwnTargets) {
  FormulaSource model(20, successor, 2);  // both windows in one pass
  const std::vector<TokenId> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18};
  const PerplexityReport r = measure_perplexity(model, nullptr, tokens, {.context = 8});
  EXPECT_NEAR(std::log(r.perplexity.value), std::log(19 + std::exp(3.0)) - 3, 1e-5);
}

TEST(Perplexity, LargeVocabularyIsScoredAFewRowsAtATime) {
  // 64 MB hold 5 rows of logits; 7 are scored, and only the last two are not followed by their successor.
  const int64_t vocab = 3 << 20;
  FormulaSource model(vocab, successor);
  const std::vector<TokenId> tokens = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 9, 9};
  const PerplexityReport r = measure_perplexity(model, nullptr, tokens, {.context = 16});
  const double z = std::log(static_cast<double>(vocab) - 1 + std::exp(3.0));
  EXPECT_NEAR(std::log(r.perplexity.value), z - 5 * 3.0 / 7, 1e-5);
}

TEST(Perplexity, BosTakesThePlaceOfEachFirstTokenButIsNoTarget) {
  FormulaSource model(20, flat, 2);
  const std::vector<TokenId> tokens(16, 5);
  measure_perplexity(model, nullptr, tokens, {.context = 4, .bos = 1});
  EXPECT_EQ(model.starts, (std::vector<TokenId>{1, 1, 1, 1}));
  measure_perplexity(model, nullptr, tokens, {.context = 8});
  EXPECT_EQ(model.starts, (std::vector<TokenId>{1, 1, 1, 1, 5, 5}));
}

TEST(Perplexity, AgainstTheOriginal) {
  FormulaSource model(4, flat, 3), original(4, successor);
  const std::vector<TokenId> tokens = {0, 1, 2, 1, 0, 1, 2, 0};
  const PerplexityReport r = measure_perplexity(model, &original, tokens, {.context = 8});
  const double z = std::log(3 + std::exp(3.0));
  // Positions 4, 5, 6 hold 0, 1, 2 and are followed by 1, 2, 0: right, right, wrong.
  const double base = (2 * (z - 3) + z) / 3;
  EXPECT_NEAR(std::log(r.base_perplexity->value), base, 1e-5);
  EXPECT_NEAR(r.perplexity_ratio->value, 4 / std::exp(base), 1e-4);
  const double p = std::exp(3 - z), rest = std::exp(-z);
  const double divergence = p * (3 - z + std::log(4.0)) + 3 * rest * (-z + std::log(4.0));
  EXPECT_NEAR(r.kl_divergence->value, divergence, 1e-5);
  EXPECT_NEAR(r.kl_divergence->standard_error, 0, 1e-4);
  EXPECT_EQ(r.top1_agreement->value, 0);  // a flat model's first is 0, the original expects 1, 2, 3
}

TEST(Perplexity, OfAModelAgainstItself) {
  FormulaSource model(30, successor), same(30, successor);
  const std::vector<TokenId> tokens(64, 3);
  const PerplexityReport r = measure_perplexity(model, &same, tokens, {.context = 32});
  EXPECT_EQ(r.perplexity_ratio->value, 1);
  EXPECT_EQ(r.perplexity_ratio->standard_error, 0);
  EXPECT_EQ(r.kl_divergence->value, 0);
  EXPECT_EQ(r.top1_agreement->value, 1);
}

TEST(Perplexity, ChunksAreLimited) {
  FormulaSource model(30, flat, 4);
  const std::vector<TokenId> tokens(100, 3);
  EXPECT_EQ(measure_perplexity(model, nullptr, tokens, {.context = 10, .chunks = 3}).chunks, 3);
  EXPECT_EQ(measure_perplexity(model, nullptr, tokens, {.context = 10, .chunks = 99}).chunks, 10);
}

TEST(Perplexity, RefusesWhatCannotBeMeasured) {
  FormulaSource model(30, flat), other(31, flat);
  const std::vector<TokenId> tokens(15, 3), foreign(16, 30);
  const auto run = [&](LogitSource* original, std::span<const TokenId> t, PerplexityOptions o) {
    return error_of([&] { measure_perplexity(model, original, t, o); });
  };
  EXPECT_NE(run(nullptr, tokens, {.context = 16}).find("15 tokens, fewer than one chunk of 16"), std::string::npos);
  EXPECT_NE(run(nullptr, {}, {.context = 16}).find("0 tokens"), std::string::npos);
  EXPECT_NE(run(&other, tokens, {.context = 8}).find("the model has 30 tokens, the original 31"), std::string::npos);
  EXPECT_NE(run(nullptr, foreign, {.context = 16}).find("token 30 is not in"), std::string::npos);
  EXPECT_NE(run(nullptr, tokens, {.context = 3}).find("at least 4"), std::string::npos);
  EXPECT_NE(run(nullptr, tokens, {.context = 8, .chunks = -1}).find("at least 0"), std::string::npos);
}

TEST(Perplexity, LogitsThatAreNotNumbersAreAnError) {
  FormulaSource model(30, [](TokenId, int64_t position, int64_t column) {
    return position == 12 && column == 29 ? std::numeric_limits<float>::quiet_NaN() : 0.f;
  });
  const std::vector<TokenId> tokens(32, 3);
  const std::string message = error_of([&] { measure_perplexity(model, nullptr, tokens, {.context = 16}); });
  EXPECT_NE(message.find("chunk 0, position 12: the model's logits"), std::string::npos) << message;
  FormulaSource later(30, [](TokenId token, int64_t, int64_t) { return token == 4 ? NAN : 0.f; }, 2);
  std::vector<TokenId> four_at_the_end(64, 3);
  four_at_the_end[3 * 16 + 10] = 4;
  const std::string last = error_of([&] { measure_perplexity(later, nullptr, four_at_the_end, {.context = 16}); });
  EXPECT_NE(last.find("chunk 3, position 10:"), std::string::npos) << last;
}

}  // namespace
}  // namespace packlight::eval

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "import/import.h"
#include "io/package.h"
#include "text/tokenizer.h"

namespace packlight::eval {

// How far the runtime's logits are from the executor's, and how far rounding alone can take them.
struct LogitCheck {
  int64_t tokens = 0;
  double difference = 0;  // ‖runtime - executor‖ / ‖executor - mean‖ over all rows (Frobenius)
  double bound = 0;
  // A model that rounding alone changes by more than kLoosest could hide any error: it does not pass. False for NaN.
  static constexpr double kLoosest = 0.25;
  bool conclusive() const { return bound <= kLoosest; }
  bool passed() const { return difference <= bound && conclusive(); }
};

// Runs `tokens` through the runtime (F16 KV cache; half of them as a prompt, half one by one) and through the executor on the graph decoded from the same package.
//
// What both compute alike: weights decoded from the same codes and scales; activations rounded to INT8 where the package says
// so; keys and values, which the executor rounds to F16 here at the inputs of every Attention. What is left is the order and
// precision of f32 sums: products of K <= 2^14 terms differ by about sqrt(K) * 2^-24 <= 2^-17 of their terms' norm, and where
// the runtime sums 32 columns exactly in integers by about sqrt(K / 32) * 2^-24 <= 2^-20 (e below).
// The network amplifies that, most of all where a value lies so near to the middle of two INT8 or F16 codes that it falls to
// the other side. The amplification is measured, not assumed: the executor runs three times more with its hidden
// state multiplied by 1 + e u, u uniform in [-1, 1], before every block, and the bound is twice the largest relative change
// (differences made of rare falls to another code vary from run to run, within that factor), plus e for the head.
// With INT8 activations the bound is some percent, the size of the change that rounding itself makes. A smaller error of stored
// bytes is found by the checksums and by applying the recipe again; one of the runtime's arithmetic by the kernels' own tests.
// Errors: InvalidArgument for no tokens, ids outside the vocabulary or more tokens than the model has positions.
LogitCheck check_logits(std::shared_ptr<const io::Package> package, const import::LanguageModel& decoded,
                        std::span<const text::TokenId> tokens, int threads);

// Tokens to check with: English prose where there is a tokenizer, otherwise ids spread over the vocabulary; at most 128.
std::vector<text::TokenId> verification_tokens(const io::DecoderConfig& config, const text::Tokenizer* tokenizer);

}  // namespace packlight::eval

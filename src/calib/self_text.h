#pragma once

#include <cstdint>
#include <functional>

#include "calib/calibration_tokens.h"
#include "runtime/decoder.h"
#include "text/tokenizer.h"

namespace packlight::calib {

struct SelfTextOptions {
  int64_t tokens = 16384;
  int64_t window = 512;  // tokens of one text; at most the decoder's context
  uint64_t seed = 0;
  int top_k = 50;        // sampled among the top_k likeliest, temperature 1
};

// Calibration text that the model writes itself: each window starts with BOS where the model asks for it and one token drawn evenly
// from the vocabulary's normal tokens, then continues by sampling; after an end token a fresh start token follows. Windows are decoded
// together, as many at a time as the decoder holds sequences. The same decoder, options and seed give the same tokens.
// Source: arXiv:2305.17888 section 3.1; differs: no greedy stretch after the first token.
// Errors: InvalidArgument for a context shorter than the window; those of Decoder::forward().
CalibrationTokens write_own_text(runtime::Decoder& decoder, const text::Tokenizer& tokenizer, const SelfTextOptions& options,
                                 const std::function<void(int64_t tokens)>& on_tokens = nullptr);

}  // namespace packlight::calib

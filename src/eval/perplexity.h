#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "eval/estimate.h"
#include "eval/logit_source.h"

namespace packlight::eval {

struct PerplexityOptions {
  int64_t context = 512;  // tokens per chunk, at least 4
  int64_t chunks = 0;     // 0: all that the text fills; more than the text fills is cut down to that
  int32_t bos = -1;       // >= 0: takes the place of every chunk's first token (models that add one)
  int threads = 0;        // for the metrics; 0: one per processor
};

struct PerplexityReport {
  Estimate perplexity;
  // Against the original, from the same tokens:
  std::optional<Estimate> base_perplexity, perplexity_ratio, kl_divergence, top1_agreement;
  int64_t chunks = 0;
  int64_t tokens = 0;         // run through the model: chunks * context
  int64_t scored_tokens = 0;  // predictions that count
  double seconds = 0;         // everything
  double model_seconds = 0;   // without the original's part
};

// llama-perplexity's protocol: `tokens` in chunks of `context`, each from an empty context; the predictions made at positions
// context/2 .. context-2 of a chunk count, and the perplexity is exp of their mean negative log-likelihood. With
// `original`, both run chunk by chunk and are compared on full-precision logits: KL(original || model) and equality of the
// most likely token. Progress on standard error. Errors: InvalidArgument for fewer tokens than one chunk, an impossible context or
// vocabularies that differ; Corrupt for logits that are not finite (names chunk and position).
PerplexityReport measure_perplexity(LogitSource& model, LogitSource* original, std::span<const text::TokenId> tokens,
                                    const PerplexityOptions& options);

// Tokens of a text file as llama.cpp reads it: one newline at the end is dropped; BOS where the model adds one. Errors: NotFound,
// Io; InvalidArgument naming the file when there is no token in it.
std::vector<text::TokenId> tokens_of_file(const std::filesystem::path& path, const text::Tokenizer& tokenizer);

}  // namespace packlight::eval

#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_blob.h"

namespace packlight::text {

// A piece of text between added tokens, or one of them.
struct Fragment {
  size_t begin, size;
  TokenId id;  // -1: text
};

// Finds a tokenizer's added tokens in text. Immutable.
class AddedTokens {
 public:
  // Those of `blob` with the flag "normalized" or those without. `spelling(piece)` is what is
  // looked for.
  AddedTokens(const Blob& blob, bool normalized,
              std::string (*spelling)(const Blob&, std::string_view));

  // Fragments in order; the text fragments are not empty. Special tokens count only with
  // `parse_special`.
  std::vector<Fragment> split(std::string_view text, bool parse_special) const;

 private:
  struct Pattern {
    std::string text;
    TokenId id;
    uint32_t flags;
  };
  struct Match {
    size_t begin, pattern;
  };
  std::vector<Match> longest_first(std::string_view text, bool parse_special) const;
  std::vector<Match> leftmost_longest(std::string_view text) const;
  bool accepted(const Pattern& pattern, std::string_view before, std::string_view after,
                bool parse_special) const;

  bool longest_first_;
  std::vector<Pattern> patterns_;  // longest first
  std::array<std::vector<uint32_t>, 256> by_first_byte_;
};

}  // namespace packlight::text

#pragma once

#include <string_view>

namespace packlight::text {

// Pre-tokenizer patterns that GGUF knows by a name. The first of each pair is llama.cpp's spelling,
// the second the one in published tokenizer.json files; they differ for U+017F alone, which folds
// to s.
#define PACKLIGHT_WORDS(NUMBERS)               \
  R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" NUMBERS \
  R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"
#define PACKLIGHT_ENDINGS R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]))"
#define PACKLIGHT_FOLDED_ENDINGS R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
inline constexpr std::string_view kLlama3Pattern = PACKLIGHT_ENDINGS PACKLIGHT_WORDS("{1,3}");
inline constexpr std::string_view kLlama3FoldedPattern =
    PACKLIGHT_FOLDED_ENDINGS PACKLIGHT_WORDS("{1,3}");
inline constexpr std::string_view kQwen2Pattern = PACKLIGHT_ENDINGS PACKLIGHT_WORDS("");
inline constexpr std::string_view kQwen2FoldedPattern =
    PACKLIGHT_FOLDED_ENDINGS PACKLIGHT_WORDS("");
#undef PACKLIGHT_WORDS
#undef PACKLIGHT_ENDINGS
#undef PACKLIGHT_FOLDED_ENDINGS

}  // namespace packlight::text

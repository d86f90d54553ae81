#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace packlight::text {

// What becomes of text before it is cut into words.
enum class SpacePrefix : uint8_t {
  kNone,
  kAlways,           // a space before every piece of text between special tokens (Prepend; GGUF
                     // add_space_prefix)
  kUnlessSpace,      // the same, unless the piece begins with one (Metaspace "always", ByteLevel
                     // add_prefix_space)
  kFirstUnlessSpace  // only before the piece at the very start (Metaspace "first")
};

enum class SplitRule : uint8_t {
  kGpt2,       // the pattern inside tokenizers' ByteLevel
  kDigits,     // every character of category N on its own
  kDigitRuns,  // runs of them
  kMetaspace,  // before every U+2581
  kRegex,      // `pattern`, in Oniguruma's syntax as tokenizer.json has it; matches and the text
               // between them are words
};

struct SplitStage {
  SplitRule rule = SplitRule::kGpt2;
  std::string pattern;
};

struct MergeRule {
  uint32_t left, right;  // symbols: token ids, or tokens.size() + i for extra_characters[i]
  uint32_t result;       // token id
  uint32_t rank;         // lower merges first; equal ranks from the left
};

// A token that is found in the text before anything else.
struct AddedToken {
  uint32_t id = 0;
  bool special = false;                 // found only when special tokens are parsed
  bool lstrip = false, rstrip = false;  // takes the white space beside it
  bool single_word = false;
  bool normalized = false;  // found after normalization
};

// Everything a tokenizer is, in the form its readers fill and its writers read. The running form is
// the blob.
struct TokenizerData {
  std::string origin;          // for messages; not kept in the blob
  bool byte_level = true;      // else SentencePiece with byte fallback
  bool ignore_merges = false;  // a word that is a token is not merged
  bool fuse_unknown = false;   // runs of unknown characters give one unknown token
  bool unknown_breaks_words =
      true;  // an unknown character keeps its neighbours apart (llama.cpp), or vanishes first
  bool longest_added_first =
      true;              // over the whole text (llama.cpp), or the leftmost first (tokenizers)
  bool compose = false;  // NFC
  bool escape_spaces = false;       // " " becomes U+2581
  bool normalizer_escapes = false;  // before "normalized" added tokens are looked for, or after
  SpacePrefix space_prefix = SpacePrefix::kNone;

  std::vector<std::string> pieces;  // unique unless empty (a hole)
  std::vector<TokenKind> kinds;
  std::vector<float> scores;  // SentencePiece from GGUF, or empty
  std::vector<uint32_t>
      extra_characters;  // code points that are no token but begin merges, ascending
  std::vector<MergeRule> merges;
  std::vector<AddedToken> added;
  std::vector<SplitStage> splits;
  std::vector<TokenId> prefix_ids, suffix_ids;
  TokenId bos = -1, eos = -1, unk = -1, pad = -1;
  std::string pre_name;  // GGUF's tokenizer.ggml.pre, or empty
  std::string chat_template;
};

}  // namespace packlight::text

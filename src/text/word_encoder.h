#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer_blob.h"

namespace packlight::text {

// What a vocabulary says about single bytes; filled once when a tokenizer is opened.
struct ByteTables {
  static constexpr uint32_t kNone = UINT32_MAX;
  std::array<uint32_t, 256> symbol;   // byte-level: the symbol a byte begins as
  std::array<TokenId, 256> fallback;  // SentencePiece: the token <0xXX>, or -1
  explicit ByteTables(const Blob& blob);
};

// Byte-pair merging of one word at a time, with a cache of the words seen. One per encode() call:
// not for several threads. Ids equal llama.cpp's and tokenizers': always the pair of lowest rank,
// the leftmost of equals. Cost: a word of n symbols O(n^2) for small n, O(n log n) above.
class WordEncoder {
 public:
  WordEncoder(const Blob& blob, const ByteTables& bytes) : blob_(blob), bytes_(bytes) {}

  // `word`: well-formed UTF-8 when the tokenizer is byte-level; any bytes otherwise. Appends its
  // ids.
  void encode(std::string_view word, std::vector<TokenId>* out);

 private:
  struct Symbol {
    uint32_t id;  // ByteTables::kNone: no symbol
    uint32_t begin, size;
    int32_t prev, next;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  void seed_bytes(std::string_view word);
  void seed_characters(std::string_view word);
  void merge_small();
  void merge_large();
  void emit(std::string_view word, std::vector<TokenId>* out) const;

  const Blob& blob_;
  const ByteTables& bytes_;
  std::vector<Symbol> symbols_;
  std::vector<const Blob::Merge*> pairs_;
  std::unordered_map<std::string, std::vector<TokenId>, Hash, std::equal_to<>> cache_;
};

}  // namespace packlight::text

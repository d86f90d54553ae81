#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_data.h"

namespace packlight::text {

// The binary form of a tokenizer (docs in the .cpp beside the writer): little endian, everything in
// tables of 32-bit numbers that are used where they lie.
std::vector<std::byte> write_blob(const TokenizerData& data);

// A view of such bytes. Opening checks every offset, count and id once, in time linear in the size;
// afterwards nothing in it can lead outside. Order inside sorted tables is not checked: wrong order
// gives wrong lookups, never worse.
class Blob {
 public:
  struct Merge {
    uint32_t right, rank, result;
  };
  struct Added {
    uint32_t id, flags;
  };

  // `bytes` begins at a multiple of 4. Errors, naming `origin`: Corrupt; Unsupported for a newer
  // version.
  static Blob open(std::span<const std::byte> bytes, std::string_view origin);

  uint32_t token_count() const { return token_count_; }
  uint32_t symbol_count() const { return token_count_ + static_cast<uint32_t>(extra_.size()); }
  std::string_view piece(uint32_t id) const {
    return {pieces_.data() + piece_begin_[id], piece_begin_[id + 1] - piece_begin_[id]};
  }
  TokenKind kind(uint32_t id) const { return static_cast<TokenKind>(kinds_[id]); }
  // Token whose piece is `text`, or -1. O(log n).
  TokenId find(std::string_view text) const;
  // The merge of two symbols, or null. O(log) of the merges that begin with `left`.
  const Merge* find_merge(uint32_t left, uint32_t right) const;
  // Symbol of a character that is no token, or -1.
  int64_t find_extra(uint32_t code_point) const;

  bool flag(uint32_t bit) const { return (flags_ & bit) != 0; }
  SpacePrefix space_prefix() const { return space_prefix_; }
  TokenId bos() const { return bos_; }
  TokenId eos() const { return eos_; }
  TokenId unk() const { return unk_; }
  TokenId pad() const { return pad_; }
  std::span<const TokenId> prefix_ids() const { return prefix_ids_; }
  std::span<const TokenId> suffix_ids() const { return suffix_ids_; }
  std::span<const Added> added() const { return added_; }
  std::span<const float> scores() const { return scores_; }
  std::string_view chat_template() const { return chat_template_; }
  std::string_view pre_name() const { return pre_name_; }
  const std::vector<SplitStage>& splits() const { return splits_; }
  const std::string& origin() const { return origin_; }

  // The whole content again, for the writers of other formats.
  TokenizerData data() const;

 private:
  uint32_t token_count_ = 0, flags_ = 0;
  SpacePrefix space_prefix_ = SpacePrefix::kNone;
  TokenId bos_ = -1, eos_ = -1, unk_ = -1, pad_ = -1;
  std::span<const uint32_t> piece_begin_, sorted_, merge_begin_, extra_;
  std::span<const char> pieces_;
  std::span<const uint8_t> kinds_;
  std::span<const Merge> merges_;
  std::span<const float> scores_;
  std::span<const Added> added_;
  std::span<const TokenId> prefix_ids_, suffix_ids_;
  std::string_view pre_name_, chat_template_;
  std::string origin_;
  std::vector<SplitStage> splits_;
};

// Bits of the header's flags.
enum BlobFlag : uint32_t {
  kByteLevel = 1u << 0,
  kIgnoreMerges = 1u << 1,
  kFuseUnknown = 1u << 2,
  kUnknownBreaksWords = 1u << 3,
  kLongestAddedFirst = 1u << 4,
  kCompose = 1u << 5,
  kEscapeSpaces = 1u << 6,
  kNormalizerEscapes = 1u << 7,
  // No merge gives a piece with U+2581 after another character, so text may be cut before such a
  // one.
  kCutsAtSpaces = 1u << 8,
};

enum AddedFlag : uint32_t {
  kAddedSpecial = 1u << 0,
  kAddedLstrip = 1u << 1,
  kAddedRstrip = 1u << 2,
  kAddedSingleWord = 1u << 3,
  kAddedNormalized = 1u << 4,
};

}  // namespace packlight::text

#include "text/word_encoder.h"

#include <algorithm>
#include <queue>

#include "text/byte_level.h"
#include "text/utf8.h"

namespace packlight::text {
namespace {

constexpr uint32_t kNone = ByteTables::kNone;
constexpr size_t kSmallWord = 48;  // symbols up to which scanning beats a heap
constexpr size_t kCachedWordBytes = 64;
constexpr size_t kCachedWords = 1 << 16;  // bounds memory on hostile text

struct Candidate {
  uint32_t rank;
  int32_t left, right;
  uint32_t left_id, right_id;
  const Blob::Merge* merge;
  // The heap's top is the lowest rank, then the leftmost.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

}  // namespace

ByteTables::ByteTables(const Blob& blob) {
  symbol.fill(kNone);
  fallback.fill(-1);
  for (int byte = 0; byte < 256; ++byte) {
    if (blob.flag(kByteLevel)) {
      std::string character;
      append_utf8(byte_characters()[byte], &character);
      const TokenId id = blob.find(character);
      if (id >= 0) symbol[byte] = static_cast<uint32_t>(id);
    } else {
      constexpr char kHex[] = "0123456789ABCDEF";
      const char spelling[] = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
      fallback[byte] = blob.find(std::string_view(spelling, sizeof spelling));
      if (fallback[byte] < 0) {
        const char raw = static_cast<char>(byte);
        fallback[byte] = blob.find(std::string_view(&raw, 1));
      }
    }
  }
}

void WordEncoder::encode(std::string_view word, std::vector<TokenId>* out) {
  const bool cacheable = word.size() <= kCachedWordBytes;
  if (cacheable) {
    const auto it = cache_.find(word);
    if (it != cache_.end()) {
      out->insert(out->end(), it->second.begin(), it->second.end());
      return;
    }
  }
  const size_t before = out->size();
  const TokenId whole = !blob_.flag(kIgnoreMerges) ? -1
                        : blob_.flag(kByteLevel)   ? blob_.find(spell_bytes(word))
                                                   : blob_.find(word);
  if (whole >= 0) {
    out->push_back(whole);
  } else {
    symbols_.clear();
    if (blob_.flag(kByteLevel)) {
      seed_bytes(word);
    } else {
      seed_characters(word);
    }
    if (symbols_.size() <= kSmallWord) {
      merge_small();
    } else {
      merge_large();
    }
    emit(word, out);
  }
  if (cacheable && cache_.size() < kCachedWords) {
    cache_.emplace(word, std::vector<TokenId>(out->begin() + before, out->end()));
  }
}

void WordEncoder::seed_bytes(std::string_view word) {
  // tokenizers drops an unknown byte before merging unless there is an unknown token to stand for
  // it.
  const bool vanish = !blob_.flag(kUnknownBreaksWords) && blob_.unk() < 0;
  for (uint32_t i = 0; i < word.size(); ++i) {
    const uint32_t id = bytes_.symbol[static_cast<uint8_t>(word[i])];
    if (id != kNone || !vanish) symbols_.push_back({id, i, 1, 0, 0});
  }
}

void WordEncoder::seed_characters(std::string_view word) {
  for (uint32_t i = 0; i < word.size();) {
    const Utf8Char c = decode_utf8(word.substr(i));
    const uint32_t size = c.length > 0 ? c.length : 1;
    int64_t id = c.length > 0 ? blob_.find(word.substr(i, size)) : -1;
    if (id < 0 && c.length > 0) id = blob_.find_extra(c.code_point);
    symbols_.push_back({id < 0 ? kNone : static_cast<uint32_t>(id), i, size, 0, 0});
    i += size;
  }
}

void WordEncoder::merge_small() {
  const auto pair_at = [&](size_t i) -> const Blob::Merge* {
    const uint32_t left = symbols_[i].id, right = symbols_[i + 1].id;
    return left == kNone || right == kNone ? nullptr : blob_.find_merge(left, right);
  };
  pairs_.clear();
  for (size_t i = 0; i + 1 < symbols_.size(); ++i) pairs_.push_back(pair_at(i));
  while (true) {
    size_t best = pairs_.size();
    for (size_t i = 0; i < pairs_.size(); ++i) {
      if (pairs_[i] != nullptr && (best == pairs_.size() || pairs_[i]->rank < pairs_[best]->rank))
        best = i;
    }
    if (best == pairs_.size()) return;
    symbols_[best].id = pairs_[best]->result;
    symbols_[best].size += symbols_[best + 1].size;
    symbols_.erase(symbols_.begin() + best + 1);
    pairs_.erase(pairs_.begin() + best);
    if (best > 0) pairs_[best - 1] = pair_at(best - 1);
    if (best < pairs_.size()) pairs_[best] = pair_at(best);
  }
}

void WordEncoder::merge_large() {
  std::vector<Candidate> storage;
  storage.reserve(symbols_.size());
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(storage));
  const auto consider = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0 || symbols_[left].id == kNone || symbols_[right].id == kNone) return;
    const Blob::Merge* merge = blob_.find_merge(symbols_[left].id, symbols_[right].id);
    if (merge != nullptr) {
      queue.push({merge->rank, left, right, symbols_[left].id, symbols_[right].id, merge});
    }
  };
  const auto count = static_cast<int32_t>(symbols_.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols_[i].prev = i - 1;
    symbols_[i].next = i + 1 < count ? i + 1 : -1;
    if (i > 0) consider(i - 1, i);
  }
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols_[top.left];
    Symbol& right = symbols_[top.right];
    // Outdated when either side was merged since (size 0: into its left neighbour).
    if (left.size == 0 || right.size == 0 || left.id != top.left_id || right.id != top.right_id)
      continue;
    left.id = top.merge->result;
    left.size += right.size;
    right.size = 0;
    left.next = right.next;
    if (right.next >= 0) symbols_[right.next].prev = top.left;
    consider(left.prev, top.left);
    consider(top.left, left.next);
  }
  symbols_.erase(
      std::remove_if(symbols_.begin(), symbols_.end(), [](const Symbol& s) { return s.size == 0; }),
      symbols_.end());
}

void WordEncoder::emit(std::string_view word, std::vector<TokenId>* out) const {
  bool after_unknown = false;
  for (const Symbol& symbol : symbols_) {
    if (symbol.id < blob_.token_count()) {
      out->push_back(static_cast<TokenId>(symbol.id));
      after_unknown = false;
      continue;
    }
    const std::string_view bytes = word.substr(symbol.begin, symbol.size);
    const bool spelt = std::all_of(bytes.begin(), bytes.end(), [&](char c) {
      return bytes_.fallback[static_cast<uint8_t>(c)] >= 0;
    });
    if (spelt) {
      for (const char c : bytes) out->push_back(bytes_.fallback[static_cast<uint8_t>(c)]);
      after_unknown = false;
    } else if (blob_.unk() >= 0 && !(blob_.flag(kByteLevel) && blob_.flag(kUnknownBreaksWords))) {
      // llama.cpp drops what a byte-level vocabulary lacks; everyone else has an unknown token for
      // it.
      if (!after_unknown || !blob_.flag(kFuseUnknown)) out->push_back(blob_.unk());
      after_unknown = true;
    }
  }
}

}  // namespace packlight::text

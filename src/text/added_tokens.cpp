#include "text/added_tokens.h"

#include <algorithm>
#include <map>

#include "text/character_class.h"
#include "text/utf8.h"

namespace packlight::text {
namespace {

// Bytes of white space at the end or the start of `text`.
size_t spaces_at_end(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
    const Utf8Char c = decode_utf8(text.substr(begin, end - begin));
    if (c.length == 0 || !is_white_space(c.code_point)) break;
    end = begin;
  }
  return text.size() - end;
}

size_t spaces_at_start(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Char c = decode_utf8(text.substr(at));
    if (c.length == 0 || !is_white_space(c.code_point)) break;
    at += c.length;
  }
  return at;
}

bool ends_with_word(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0 && (static_cast<uint8_t>(text[begin - 1]) & 0xC0) == 0x80) --begin;
  if (begin > 0) --begin;
  const Utf8Char c = decode_utf8(text.substr(begin));
  return c.length > 0 && is_word_character(c.code_point);
}

bool starts_with_word(std::string_view text) {
  const Utf8Char c = decode_utf8(text);
  return c.length > 0 && is_word_character(c.code_point);
}

}  // namespace

AddedTokens::AddedTokens(const Blob& blob, bool normalized,
                         std::string (*spelling)(const Blob&, std::string_view))
    : longest_first_(blob.flag(kLongestAddedFirst)) {
  for (const Blob::Added& token : blob.added()) {
    if (((token.flags & kAddedNormalized) != 0) != normalized) continue;
    patterns_.push_back(
        {spelling(blob, blob.piece(token.id)), static_cast<TokenId>(token.id), token.flags});
  }
  std::stable_sort(patterns_.begin(), patterns_.end(), [](const Pattern& a, const Pattern& b) {
    return a.text.size() > b.text.size();
  });
  for (uint32_t i = 0; i < patterns_.size(); ++i) {
    if (!patterns_[i].text.empty())
      by_first_byte_[static_cast<uint8_t>(patterns_[i].text[0])].push_back(i);
  }
}

bool AddedTokens::accepted(const Pattern& pattern, std::string_view before, std::string_view after,
                           bool parse_special) const {
  if (!parse_special && (pattern.flags & kAddedSpecial) != 0) return false;
  return (pattern.flags & kAddedSingleWord) == 0 ||
         (!ends_with_word(before) && !starts_with_word(after));
}

// llama.cpp: one token after the other, the longest first, each cutting what text is left.
std::vector<AddedTokens::Match> AddedTokens::longest_first(std::string_view text,
                                                           bool parse_special) const {
  std::vector<Match> candidates;
  for (size_t i = 0; i < text.size(); ++i) {
    for (const uint32_t p : by_first_byte_[static_cast<uint8_t>(text[i])]) {
      const bool counts = parse_special || (patterns_[p].flags & kAddedSpecial) == 0;
      if (counts && text.substr(i).starts_with(patterns_[p].text)) candidates.push_back({i, p});
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Match& a, const Match& b) { return a.pattern < b.pattern; });
  std::map<size_t, Match> taken;  // by begin; never overlapping
  for (const Match& match : candidates) {
    const size_t end = match.begin + patterns_[match.pattern].text.size();
    const auto next = taken.lower_bound(match.begin);
    if (next != taken.end() && next->first < end) continue;
    if (next != taken.begin()) {
      const Match& previous = std::prev(next)->second;
      if (previous.begin + patterns_[previous.pattern].text.size() > match.begin) continue;
    }
    taken.emplace_hint(next, match.begin, match);
  }
  std::vector<Match> matches;
  for (const auto& entry : taken) matches.push_back(entry.second);
  return matches;
}

// tokenizers: the first that begins, the longest of those; the next after its end.
std::vector<AddedTokens::Match> AddedTokens::leftmost_longest(std::string_view text) const {
  std::vector<Match> matches;
  for (size_t i = 0; i < text.size();) {
    const auto& list = by_first_byte_[static_cast<uint8_t>(text[i])];
    const auto it = std::find_if(list.begin(), list.end(), [&](uint32_t p) {
      return text.substr(i).starts_with(patterns_[p].text);
    });
    if (it == list.end()) {
      ++i;
      continue;
    }
    matches.push_back({i, *it});
    i += patterns_[*it].text.size();
  }
  return matches;
}

std::vector<Fragment> AddedTokens::split(std::string_view text, bool parse_special) const {
  std::vector<Fragment> fragments;
  size_t done = 0;
  if (!patterns_.empty()) {
    for (const Match& match :
         longest_first_ ? longest_first(text, parse_special) : leftmost_longest(text)) {
      const Pattern& pattern = patterns_[match.pattern];
      size_t begin = match.begin, end = match.begin + pattern.text.size();
      if (!accepted(pattern, text.substr(0, begin), text.substr(end), parse_special)) continue;
      if ((pattern.flags & kAddedLstrip) != 0)
        begin = std::max(done, begin - spaces_at_end(text.substr(0, begin)));
      if ((pattern.flags & kAddedRstrip) != 0) end += spaces_at_start(text.substr(end));
      if (done < begin) fragments.push_back({done, begin - done, -1});
      fragments.push_back({begin, end - begin, pattern.id});
      done = end;
    }
  }
  if (done < text.size()) fragments.push_back({done, text.size() - done, -1});
  return fragments;
}

}  // namespace packlight::text

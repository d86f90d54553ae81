#include "text/nfc.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "text/utf8.h"

namespace packlight::text {
namespace {

struct Decomposition {
  uint32_t code_point, first, second;  // second 0: a single character
  uint32_t composes;                   // first and second compose back to code_point
};
struct CombiningRange {
  uint32_t first, last, combining_class;
};

#include "text/nfc_table.inc"

// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
constexpr uint32_t kSBase = 0xAC00, kLBase = 0x1100, kVBase = 0x1161, kTBase = 0x11A7;
constexpr uint32_t kLCount = 19, kVCount = 21, kTCount = 28, kSCount = kLCount * kVCount * kTCount;

struct Character {
  uint32_t code_point, combining_class;
};

uint32_t combining_class(uint32_t code_point) {
  const auto* it = std::upper_bound(
      std::begin(kCombiningRanges), std::end(kCombiningRanges), code_point,
      [](uint32_t want, const CombiningRange& range) { return want < range.first; });
  if (it == std::begin(kCombiningRanges)) return 0;
  --it;
  return code_point <= it->last ? it->combining_class : 0;
}

void decompose(uint32_t code_point, std::vector<Character>* out) {
  if (code_point >= kSBase && code_point < kSBase + kSCount) {
    const uint32_t index = code_point - kSBase;
    out->push_back({kLBase + index / (kVCount * kTCount), 0});
    out->push_back({kVBase + index % (kVCount * kTCount) / kTCount, 0});
    if (index % kTCount != 0) out->push_back({kTBase + index % kTCount, 0});
    return;
  }
  const auto* it =
      std::lower_bound(std::begin(kDecompositions), std::end(kDecompositions), code_point,
                       [](const Decomposition& d, uint32_t want) { return d.code_point < want; });
  if (it == std::end(kDecompositions) || it->code_point != code_point) {
    out->push_back({code_point, combining_class(code_point)});
    return;
  }
  decompose(it->first, out);
  if (it->second != 0) decompose(it->second, out);
}

// By (first, second); what composes.
const std::vector<Decomposition>& compositions() {
  static const std::vector<Decomposition> table = [] {
    std::vector<Decomposition> out;
    std::copy_if(std::begin(kDecompositions), std::end(kDecompositions), std::back_inserter(out),
                 [](const Decomposition& d) { return d.composes != 0; });
    std::sort(out.begin(), out.end(), [](const Decomposition& a, const Decomposition& b) {
      return a.first != b.first ? a.first < b.first : a.second < b.second;
    });
    return out;
  }();
  return table;
}

// 0: the two do not compose.
uint32_t composed(uint32_t first, uint32_t second) {
  if (first >= kLBase && first < kLBase + kLCount && second >= kVBase &&
      second < kVBase + kVCount) {
    return kSBase + ((first - kLBase) * kVCount + (second - kVBase)) * kTCount;
  }
  if (first >= kSBase && first < kSBase + kSCount && (first - kSBase) % kTCount == 0 &&
      second > kTBase && second < kTBase + kTCount) {
    return first + (second - kTBase);
  }
  const auto& table = compositions();
  const auto it =
      std::lower_bound(table.begin(), table.end(), std::pair(first, second),
                       [](const Decomposition& d, const std::pair<uint32_t, uint32_t>& want) {
                         return std::pair(d.first, d.second) < want;
                       });
  return it != table.end() && it->first == first && it->second == second ? it->code_point : 0;
}

void compose(std::vector<Character>* text) {
  std::vector<Character>& c = *text;
  size_t written = 0;
  constexpr size_t kNoStarter = SIZE_MAX;
  size_t starter = kNoStarter;
  for (size_t i = 0; i < c.size(); ++i) {
    // Blocked when something of no lower class stands between it and the starter.
    const bool adjacent = starter != kNoStarter && starter + 1 == written;
    const uint32_t last_class = written > 0 ? c[written - 1].combining_class : 0;
    if (starter != kNoStarter &&
        (adjacent || (last_class != 0 && last_class < c[i].combining_class))) {
      if (const uint32_t both = composed(c[starter].code_point, c[i].code_point)) {
        c[starter].code_point = both;
        continue;
      }
    }
    if (c[i].combining_class == 0) starter = written;
    c[written++] = c[i];
  }
  c.resize(written);
}

}  // namespace

std::string compose_nfc(std::string_view text) {
  // Below U+0300 (first byte CC) nothing decomposes further or combines.
  if (std::none_of(text.begin(), text.end(),
                   [](char c) { return static_cast<uint8_t>(c) >= 0xCC; })) {
    return std::string(text);
  }
  std::vector<Character> characters;
  characters.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(i));
    decompose(c.length > 0 ? c.code_point : 0xFFFD, &characters);
    i += c.length > 0 ? c.length : 1;
  }
  for (auto begin = characters.begin(); begin != characters.end();) {
    const auto is_starter = [](const Character& c) { return c.combining_class == 0; };
    begin = std::find_if_not(begin, characters.end(), is_starter);
    const auto end = std::find_if(begin, characters.end(), is_starter);
    std::stable_sort(begin, end, [](const Character& a, const Character& b) {
      return a.combining_class < b.combining_class;
    });
    begin = end;
  }
  compose(&characters);
  std::string out;
  out.reserve(text.size());
  for (const Character& c : characters) append_utf8(c.code_point, &out);
  return out;
}

}  // namespace packlight::text

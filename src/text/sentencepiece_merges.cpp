#include "text/sentencepiece_merges.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "base/fail.h"
#include "text/shown.h"
#include "text/utf8.h"

namespace packlight::text {
namespace {

using Index = std::unordered_map<std::string_view, uint32_t>;

Index index_of(const TokenizerData& data) {
  Index index;
  index.reserve(data.pieces.size());
  for (uint32_t i = 0; i < data.pieces.size(); ++i) index.emplace(data.pieces[i], i);
  return index;
}

int64_t find(const Index& index, std::string_view piece) {
  const auto it = index.find(piece);
  return it == index.end() ? int64_t{-1} : int64_t{it->second};
}

// Where characters begin, the end included; empty when the piece is not well-formed UTF-8 (no text
// ever builds it).
std::vector<size_t> boundaries(std::string_view piece) {
  std::vector<size_t> out = {0};
  while (out.back() < piece.size()) {
    const int length = decode_utf8(piece.substr(out.back())).length;
    if (length == 0) return {};
    out.push_back(out.back() + length);
  }
  return out;
}

// Calls visit(left part, right part) for each cut of each piece of two characters or more.
template <class Visit>
void for_each_cut(std::string_view piece, Visit visit) {
  const std::vector<size_t> at = boundaries(piece);
  for (size_t i = 1; i + 1 < at.size(); ++i) {
    visit(piece.substr(0, at[i]), i == 1, piece.substr(at[i]), i + 2 == at.size());
  }
}

void find_extra_characters(const Index& index, TokenizerData* data) {
  std::set<uint32_t> extra;
  for (const std::string& piece : data->pieces) {
    for_each_cut(piece, [&](std::string_view left, bool left_single, std::string_view right,
                            bool right_single) {
      if (left_single && find(index, left) < 0) extra.insert(decode_utf8(left).code_point);
      if (right_single && find(index, right) < 0) extra.insert(decode_utf8(right).code_point);
    });
  }
  data->extra_characters.assign(extra.begin(), extra.end());
}

std::map<float, uint32_t> ranks_by_score(const TokenizerData& data) {
  std::map<float, uint32_t> ranks;
  for (size_t i = 0; i < data.scores.size(); ++i) {
    if (!std::isfinite(data.scores[i])) {
      fail(ErrorCode::kCorrupt, "[text] '{}': the score of token {} is not finite", data.origin, i);
    }
    ranks.emplace(data.scores[i] == 0 ? 0.0f : data.scores[i], 0);
  }
  uint32_t rank = static_cast<uint32_t>(ranks.size());
  for (auto& entry : ranks) entry.second = --rank;  // ascending scores: the last gets 0
  return ranks;
}

}  // namespace

void derive_sentencepiece_merges(TokenizerData* data) {
  const Index index = index_of(*data);
  find_extra_characters(index, data);
  const std::map<float, uint32_t> ranks = ranks_by_score(*data);
  const auto symbol = [&](std::string_view part, bool single) -> int64_t {
    const int64_t token = find(index, part);
    if (token >= 0 || !single) return token;
    const auto it = std::lower_bound(data->extra_characters.begin(), data->extra_characters.end(),
                                     decode_utf8(part).code_point);
    return static_cast<int64_t>(data->pieces.size()) + (it - data->extra_characters.begin());
  };
  for (uint32_t i = 0; i < data->pieces.size(); ++i) {
    const uint32_t rank = ranks.at(data->scores[i] == 0 ? 0.0f : data->scores[i]);
    for_each_cut(data->pieces[i], [&](std::string_view left, bool left_single,
                                      std::string_view right, bool right_single) {
      const int64_t l = symbol(left, left_single), r = symbol(right, right_single);
      if (l < 0 || r < 0) return;
      data->merges.push_back({static_cast<uint32_t>(l), static_cast<uint32_t>(r), i, rank});
    });
  }
}

std::vector<float> derive_sentencepiece_scores(const TokenizerData& data) {
  std::vector<MergeRule> rules = data.merges;
  std::stable_sort(rules.begin(), rules.end(),
                   [](const MergeRule& a, const MergeRule& b) { return a.rank < b.rank; });
  std::vector<float> scores(data.pieces.size(), 0.0f);
  std::vector<bool> seen(data.pieces.size(), false);
  std::set<std::pair<uint32_t, uint32_t>> pairs;
  float next = -1.0f;
  for (size_t i = 0; i < rules.size(); ++i) {
    const uint32_t result = rules[i].result;
    pairs.emplace(rules[i].left, rules[i].right);
    if (i > 0 && rules[i - 1].result == result) continue;
    if (seen[result]) {
      fail(ErrorCode::kUnsupported,
           "[text] '{}': the merges that give '{}' are not in one run, so no score per token gives "
           "their order",
           data.origin, shown(data.pieces[result]));
    }
    seen[result] = true;
    scores[result] = next;
    next -= 1.0f;
  }
  const Index index = index_of(data);
  for (const std::string& piece : data.pieces) {
    for_each_cut(piece, [&](std::string_view left, bool, std::string_view right, bool) {
      const int64_t l = find(index, left), r = find(index, right);
      if (l >= 0 && r >= 0 &&
          !pairs.contains({static_cast<uint32_t>(l), static_cast<uint32_t>(r)})) {
        fail(ErrorCode::kUnsupported,
             "[text] '{}': '{}' and '{}' make the token '{}' but no merge joins them; scores would",
             data.origin, shown(left), shown(right), shown(piece));
      }
    });
  }
  return scores;
}

}  // namespace packlight::text

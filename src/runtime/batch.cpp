#include "runtime/batch.h"

#include <algorithm>

namespace packlight::runtime {
namespace {

// What a row of attention costs beside its positions, in positions: rotation, set-up, the final
// division.
constexpr int64_t kRowOverhead = 16;

}  // namespace

void BatchRows::clear() {
  sequence.clear();
  first.clear();
  end.clear();
  source.clear();
  cost.assign(1, 0);
  runs.clear();
  run.clear();
}

void BatchRows::add(int32_t row_sequence, int32_t row_first, int32_t row_end, int32_t row_source) {
  const int64_t row = size();
  if (row == 0 || sequence.back() != row_sequence) runs.push_back({row, row});
  ++runs.back().end;
  run.push_back(static_cast<int32_t>(runs.size() - 1));
  sequence.push_back(row_sequence);
  first.push_back(row_first);
  end.push_back(row_end);
  source.push_back(row_source);
  cost.push_back(cost.back() + (row_end - row_first) + kRowOverhead);
}

void Batch::assign(std::span<const DecoderToken> tokens, std::span<const int64_t> lengths,
                   int64_t sliding_window) {
  ids.clear();
  all.clear();
  wanted.clear();
  std::vector<int64_t> next(lengths.begin(), lengths.end());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const DecoderToken& token = tokens[i];
    const int64_t end = ++next[token.sequence];
    const int64_t first = sliding_window > 0 ? std::max<int64_t>(0, end - sliding_window) : 0;
    ids.push_back(token.token);
    all.add(token.sequence, static_cast<int32_t>(first), static_cast<int32_t>(end),
            static_cast<int32_t>(i));
    if (token.logits) {
      wanted.add(token.sequence, static_cast<int32_t>(first), static_cast<int32_t>(end),
                 static_cast<int32_t>(i));
    }
  }
}

}  // namespace packlight::runtime

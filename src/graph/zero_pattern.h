#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace packlight::graph {

// Where the zeros of a pruned matrix lie.
struct ZeroPattern {
  int64_t keep = 0, of = 0;  // N:M: at most `keep` of each `of` consecutive columns are not zero; 0: anywhere
  bool is_structured() const { return of > 0; }
  // The share of weights that N:M removes.
  double ratio() const { return 1.0 - static_cast<double>(keep) / static_cast<double>(of); }
  bool operator==(const ZeroPattern&) const = default;
};

// "unstructured" or "N:M" with 0 < N < M <= 1024. Errors: InvalidArgument naming the text and the rule.
ZeroPattern parse_zero_pattern(std::string_view text);
std::string to_string(const ZeroPattern& pattern);

}  // namespace packlight::graph

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace packlight::prune {

// Which weights are compared with each other when a share of them goes.
enum class Scope {
  kRow,     // those of one output (Wanda)
  kMatrix,  // all of a layer (magnitude)
};

// Where zeros may be.
struct Pattern {
  int64_t keep = 0, of = 0;  // N:M: at most `keep` of each `of` consecutive columns are not zero; 0: anywhere
  bool is_structured() const { return of > 0; }
  // The share of weights that N:M removes.
  double ratio() const { return 1.0 - static_cast<double>(keep) / static_cast<double>(of); }
  bool operator==(const Pattern&) const = default;
};

// "unstructured" or "N:M" with 0 < N < M. Errors: InvalidArgument naming the text and the rule.
Pattern parse_pattern(std::string_view text);
std::string to_string(const Pattern& pattern);

// The weights to keep (bool, [rows, cols]): those of the highest scores. Of equal scores the later in the row (then the later row)
// stay. scores: [rows, cols] f32, finite.
//   unstructured: exactly round(ratio * rows * cols) go; with Scope::kRow each row loses its share of them, to within one
//   N:M: `ratio` and `scope` say nothing; cols must be a multiple of M
// The result does not depend on the number of threads.
at::Tensor keep_mask(const at::Tensor& scores, const Pattern& pattern, double ratio, Scope scope);

}  // namespace packlight::prune

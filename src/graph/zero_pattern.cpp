#include "graph/zero_pattern.h"

#include <fmt/format.h>

#include <charconv>

#include "base/fail.h"

namespace packlight::graph {
namespace {

constexpr int64_t kLargestGroup = 1024;

bool parse_count(std::string_view text, int64_t* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

ZeroPattern parse_zero_pattern(std::string_view text) {
  if (text == "unstructured") return {};
  const size_t colon = text.find(':');
  ZeroPattern pattern;
  if (colon == std::string_view::npos || !parse_count(text.substr(0, colon), &pattern.keep) ||
      !parse_count(text.substr(colon + 1), &pattern.of)) {
    fail(ErrorCode::kInvalidArgument, "[prune] pattern '{}': it must be unstructured, or N:M such as 2:4", text);
  }
  if (pattern.keep < 1 || pattern.keep >= pattern.of || pattern.of > kLargestGroup) {
    fail(ErrorCode::kInvalidArgument, "[prune] pattern '{}': N of every M weights stay, so 1 <= N < M <= {} must hold", text,
         kLargestGroup);
  }
  return pattern;
}

std::string to_string(const ZeroPattern& pattern) {
  return pattern.is_structured() ? fmt::format("{}:{}", pattern.keep, pattern.of) : "unstructured";
}

}  // namespace packlight::graph

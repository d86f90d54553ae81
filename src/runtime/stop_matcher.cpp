#include "runtime/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "base/fail.h"

namespace packlight::runtime {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty()) fail(ErrorCode::kInvalidArgument, "[session] a stop string is empty");
  }
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  // The match that is complete first wins, whatever the pieces the text came in; of two, the
  // longer.
  size_t match = std::string::npos, match_end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos || at + stop.size() > match_end) continue;
    if (at + stop.size() == match_end && at >= match) continue;
    match = at;
    match_end = at + stop.size();
  }
  if (match != std::string::npos) {
    stopped_ = true;
    held_.resize(match);
    return std::exchange(held_, {});
  }
  size_t keep = 0;  // the longest end of the text that a stop string begins with
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
      if (held_.ends_with(std::string_view(stop).substr(0, n))) keep = n;
    }
  }
  std::string certain = held_.substr(0, held_.size() - keep);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

}  // namespace packlight::runtime

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace packlight::runtime {

// Looks for stop strings in text that comes in pieces, and passes on only text that cannot belong
// to one.
class StopMatcher {
 public:
  // Errors: InvalidArgument for an empty stop string.
  explicit StopMatcher(std::vector<std::string> stops);

  // Text that is now certain. After a match (of several, the one complete first): what came before
  // it, and stopped() is true.
  std::string push(std::string_view text);
  // What was held back, when no more text comes.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace packlight::runtime

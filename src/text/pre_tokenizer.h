#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "text/tokenizer_data.h"

namespace packlight::text {

// Cuts text into the words that BPE never merges across. Immutable; any number of threads may use
// one.
class PreTokenizer {
 public:
  // Errors: Unsupported for a pattern that PCRE2 would not match as Oniguruma does (see
  // regex_translation.h).
  explicit PreTokenizer(const std::vector<SplitStage>& stages);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  // Views into `text` (well-formed UTF-8), in order, covering it; none is empty. Errors:
  // OutOfMemory; Unsupported when a pattern exceeds PCRE2's limits on this text.
  std::vector<std::string_view> split(std::string_view text) const;

 private:
  struct Stage;
  std::vector<Stage> stages_;
};

}  // namespace packlight::text

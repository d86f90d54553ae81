#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace packlight::io {

// A target of a compressed-tensors config group: the name of a module, or "re:" and a Python
// regular expression, of which a match must start where the name starts (re.match). Immutable; any
// number of threads may use one. PCRE2 matches, within a fixed amount of work and memory.
class ModulePattern {
 public:
  // `origin`, the file, is for errors. Errors: Unsupported for an expression of more than 512
  // bytes, or one that PCRE2 does not accept.
  ModulePattern(std::string target, std::string_view origin);

  // Errors: Unsupported when the expression needs more than that amount.
  bool matches(std::string_view module) const;
  const std::string& text() const { return target_; }

 private:
  std::string target_, origin_;
  std::shared_ptr<const void> code_;  // pcre2_code; null for a plain name
};

}  // namespace packlight::io

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace packlight::text::jinja {

struct Token {
  enum class Kind {
    kText,       // template text between tags
    kStatement,  // {%
    kOutput,     // {{
    kEnd,        // %} or }}
    kName,
    kString,
    kInteger,
    kOperator,
    kFinish
  };
  Kind kind;
  std::string text;
};

// Cuts a template into tokens; white space around tags is dealt with here. Errors: Unsupported.
std::vector<Token> tokenize(std::string_view source);

}  // namespace packlight::text::jinja

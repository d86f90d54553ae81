#include "operators/einsum.h"

#include <algorithm>
#include <map>

#include "base/fail.h"

namespace packlight::operators {
namespace {

constexpr char kEllipsis = EinsumEquation::kEllipsis;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// One side of a comma or arrow -> letters and at most one kEllipsis; spaces mean nothing.
std::string parse_term(std::string_view equation, std::string_view text) {
  std::string term;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') continue;
    if (text.substr(i, 3) == "...") {
      if (term.find(kEllipsis) != std::string::npos) {
        fail(ErrorCode::kInvalidArgument, "equation '{}': two ellipses in term '{}'", equation,
             text);
      }
      term += kEllipsis;
      i += 2;
    } else if (is_letter(text[i])) {
      term += text[i];
    } else {
      fail(ErrorCode::kInvalidArgument,
           "equation '{}': '{}' is no letter, comma, ellipsis or arrow", equation, text[i]);
    }
  }
  return term;
}

std::string implied_output(const EinsumEquation& parsed) {
  std::map<char, int> counts;
  for (const std::string& term : parsed.terms) {
    for (const char c : term) ++counts[c];
  }
  std::string output = parsed.has_ellipsis ? std::string(1, kEllipsis) : "";
  for (const auto& [letter, count] : counts) {
    if (letter != kEllipsis && count == 1) output += letter;
  }
  return output;
}

void check_output(std::string_view equation, const EinsumEquation& parsed) {
  for (size_t i = 0; i < parsed.output.size(); ++i) {
    const char c = parsed.output[i];
    if (parsed.output.find(c, i + 1) != std::string::npos)
      fail(ErrorCode::kInvalidArgument, "equation '{}': '{}' occurs twice in the output", equation,
           c);
    const bool in_terms =
        std::any_of(parsed.terms.begin(), parsed.terms.end(),
                    [c](const std::string& term) { return term.find(c) != std::string::npos; });
    if (!in_terms) {
      fail(ErrorCode::kInvalidArgument, "equation '{}': '{}' of the output occurs in no operand",
           equation, c);
    }
  }
}

}  // namespace

EinsumEquation parse_einsum(std::string_view equation, size_t operands) {
  EinsumEquation parsed;
  const size_t arrow = equation.find("->");
  std::string_view left = equation.substr(0, arrow);
  for (bool more = true; more;) {
    const size_t comma = left.find(',');
    parsed.terms.push_back(parse_term(equation, left.substr(0, comma)));
    more = comma != std::string_view::npos;
    if (more) left.remove_prefix(comma + 1);
  }
  if (parsed.terms.size() != operands) {
    fail(ErrorCode::kInvalidArgument, "equation '{}' has {} terms for {} operands", equation,
         parsed.terms.size(), operands);
  }
  for (const std::string& term : parsed.terms)
    parsed.has_ellipsis |= term.find(kEllipsis) != std::string::npos;
  const bool implied = arrow == std::string_view::npos;
  parsed.output =
      implied ? implied_output(parsed) : parse_term(equation, equation.substr(arrow + 2));
  check_output(equation, parsed);
  return parsed;
}

std::string EinsumEquation::to_string() const {
  std::string text;
  const auto append = [&text](const std::string& term) {
    for (const char c : term) text += c == kEllipsis ? "..." : std::string(1, c);
  };
  for (size_t i = 0; i < terms.size(); ++i) {
    if (i > 0) text += ',';
    append(terms[i]);
  }
  text += "->";
  append(output);
  return text;
}

}  // namespace packlight::operators

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace packlight::operators {

// An Einsum equation, checked: a string per operand and one for the output, a letter per dimension
// and kEllipsis for the dimensions of "...". An output that is left out is there as ONNX says: the
// ellipsis, then the letters that occur once, in ASCII order.
struct EinsumEquation {
  static constexpr char kEllipsis = '.';
  std::vector<std::string> terms;
  std::string output;
  bool has_ellipsis = false;  // in any term

  // The equation with its output written out.
  std::string to_string() const;
};

// Errors: InvalidArgument naming the equation and the rule that it breaks.
EinsumEquation parse_einsum(std::string_view equation, size_t operands);

}  // namespace packlight::operators

#include "cli/input_shapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/fail.h"

namespace packlight::cli {

std::vector<int64_t> parse_sizes(const std::string& flag, const std::string& text, char separator,
                                 size_t wanted) {
  std::vector<int64_t> numbers;
  size_t begin = 0;
  bool good = !text.empty();
  while (good && begin <= text.size()) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, number);
    good = error == std::errc() && stop == text.data() + end && number >= 0;
    numbers.push_back(number);
    begin = end + 1;
  }
  if (!good || (wanted > 0 && numbers.size() != wanted)) {
    const std::string count = wanted > 0 ? std::to_string(wanted) + " " : "";
    fail(ErrorCode::kInvalidArgument,
         "[cli] {} '{}': {}whole numbers are wanted, separated by '{}'", flag, text, count,
         separator);
  }
  return numbers;
}

std::string input_name(const std::string& flag, const std::string& text,
                       std::span<const std::string> inputs, const std::string& network) {
  const size_t equals = text.rfind('=');
  if (equals == std::string::npos) {
    if (inputs.size() == 1) return inputs[0];
    fail(ErrorCode::kInvalidArgument, "[cli] {} '{}': '{}' has {} inputs; write NAME={}", flag,
         text, network, inputs.size(), text);
  }
  const std::string name = text.substr(0, equals);
  if (std::ranges::find(inputs, name) == inputs.end()) {
    fail(ErrorCode::kInvalidArgument, "[cli] {} '{}': '{}' has no input '{}'; its inputs are {}",
         flag, text, network, name, fmt::join(inputs, ", "));
  }
  return name;
}

std::string input_value(const std::string& text) {
  const size_t equals = text.rfind('=');
  return equals == std::string::npos ? text : text.substr(equals + 1);
}

std::map<std::string, std::vector<int64_t>> parse_input_shapes(
    const std::vector<std::string>& texts, std::span<const std::string> inputs,
    const std::string& network) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const std::string& text : texts) {
    shapes[input_name("--input-shape", text, inputs, network)] =
        parse_sizes("--input-shape", input_value(text), ',', 0);
  }
  return shapes;
}

}  // namespace packlight::cli

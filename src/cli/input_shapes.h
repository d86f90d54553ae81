#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace packlight::cli {

// "1x28x28" -> numbers. Errors: InvalidArgument naming the flag, the text and how many are wanted
// (0: any number).
std::vector<int64_t> parse_sizes(const std::string& flag, const std::string& text, char separator,
                                 size_t wanted);

// "NAME=1,3,48,320" or, for a network of one input, "1,3,48,320" -> dimensions by input name.
// Errors: InvalidArgument naming the text and the rule, and for a name that is none of `inputs`.
std::map<std::string, std::vector<int64_t>> parse_input_shapes(
    const std::vector<std::string>& texts, std::span<const std::string> inputs,
    const std::string& network);

// What stands before the last '=' of "NAME=VALUE", or the only input where there is no '='. Errors:
// InvalidArgument naming the flag.
std::string input_name(const std::string& flag, const std::string& text,
                       std::span<const std::string> inputs, const std::string& network);

// What stands after it.
std::string input_value(const std::string& text);

}  // namespace packlight::cli

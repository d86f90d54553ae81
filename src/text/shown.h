#pragma once

#include <string>
#include <string_view>

namespace packlight::text {

// Text from a file as an error message may hold it: on one line, well-formed, cut after `longest`
// bytes.
std::string shown(std::string_view text, size_t longest = 80);

}  // namespace packlight::text

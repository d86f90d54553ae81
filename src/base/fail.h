#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <utility>

#include "packlight/error.h"

namespace packlight {

// `text` with control characters as \xNN: whatever a hostile file put into a name, an error stays one line.
std::string one_line(std::string_view text);

// Throws Error{code, one_line(formatted message)}. The text names who, where, the values and the rule:
//   fail(ErrorCode::kInvalidArgument, "[quantize] layer '{}': group_size {} ...", name, g);
template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, one_line(fmt::format(text, std::forward<Args>(args)...)));
}

}  // namespace packlight

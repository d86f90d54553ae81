#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "packlight/error.h"

namespace packlight {

// Throws Error{code, formatted message}. The text names who, where, the values and the rule:
//   fail(ErrorCode::kInvalidArgument, "[quantize] layer '{}': group_size {} ...", name, g);
template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace packlight

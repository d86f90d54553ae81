#pragma once

#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace packlight::text::jinja {

// `text.method(arguments)`, `dict.method(arguments)`. Errors: Unsupported.
Value call_method(const Value& object, std::string_view method,
                  const std::vector<Value>& arguments);

// `value | filter(arguments)`.
Value apply_filter(const Value& value, std::string_view filter,
                   const std::vector<Value>& arguments);

// `value is test(arguments)`.
bool apply_test(const Value& value, std::string_view test, const std::vector<Value>& arguments);

// Without white space (Python's) or the given characters on the left and right.
std::string stripped(std::string_view text, bool left, bool right,
                     const std::string* characters = nullptr);

bool contains(const Value& container, const Value& item);  // `item in container`

}  // namespace packlight::text::jinja

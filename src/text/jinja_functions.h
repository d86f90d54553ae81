#pragma once

#include <string_view>
#include <vector>

#include "text/jinja_budget.h"
#include "text/jinja_value.h"

namespace packlight::text::jinja {

// `text.method(arguments)`, `dict.method(arguments)`. Errors: Unsupported.
Value call_method(const Value& object, std::string_view method, const std::vector<Value>& arguments,
                  Budget& budget);

// `value | filter(arguments)`.
Value apply_filter(const Value& value, std::string_view filter, const std::vector<Value>& arguments,
                   Budget& budget);

// `value is test(arguments)`.
bool apply_test(const Value& value, std::string_view test, const std::vector<Value>& arguments,
                Budget& budget);

bool contains(const Value& container, const Value& item, Budget& budget);  // `item in container`

}  // namespace packlight::text::jinja

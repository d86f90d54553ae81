#pragma once

#include <memory>
#include <optional>

#include "text/jinja_budget.h"
#include "text/jinja_value.h"

// Lists, and texts as sequences of characters. Errors: Unsupported, also for text that is not
// UTF-8.

namespace packlight::text::jinja {

// What a loop over `value` visits: items, keys, characters; nothing when undefined.
std::shared_ptr<const List> items_of(const Value& value, Budget& budget);

// value[index]; undefined when there is none.
Value item_at(const Value& value, int64_t index, Budget& budget);

// value[start:stop:step], step 1 or -1.
struct SliceBounds {
  std::optional<int64_t> start, stop, step;
};
Value slice(const Value& value, const SliceBounds& bounds, Budget& budget);

}  // namespace packlight::text::jinja

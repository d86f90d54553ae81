#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace packlight::text::jinja {

struct Undefined {};
struct NoneValue {};
struct Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in order of insertion
// What `namespace()` gives: the one thing that `set` changes from inside a loop.
struct Namespace {
  Dict members;
};

struct Value {
  std::variant<Undefined, NoneValue, bool, int64_t, std::string, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, std::shared_ptr<Namespace>>
      data;
  int depth = 0;  // of lists and objects inside each other; limited, because freeing them recurses

  template <class T>
  const T* get() const {
    return std::get_if<T>(&data);
  }
  const List* list() const {
    const auto* pointer = std::get_if<std::shared_ptr<const List>>(&data);
    return pointer != nullptr ? pointer->get() : nullptr;
  }
  const Dict* dict() const {
    const auto* pointer = std::get_if<std::shared_ptr<const Dict>>(&data);
    return pointer != nullptr ? pointer->get() : nullptr;
  }
  bool defined() const { return !std::holds_alternative<Undefined>(data); }
  bool none() const { return std::holds_alternative<NoneValue>(data); }
};

// Errors: Unsupported for a namespace inside, or more than 32 levels.
Value make_list(List items);
Value make_dict(Dict members);

bool truth(const Value& value);
// Python's ==. Errors: Unsupported for two lists or objects, neither empty.
bool equal(const Value& a, const Value& b);
// str(value) of text, numbers, booleans and None; "" when undefined. Errors: Unsupported for the
// others.
std::string to_text(const Value& value);
// The member or null.
const Value* find_member(const Dict& dict, std::string_view key);

}  // namespace packlight::text::jinja

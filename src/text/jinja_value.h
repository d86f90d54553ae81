#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace packlight::text::jinja {

class Budget;

struct Undefined {};
struct NoneValue {};
struct Value;
using Text = std::shared_ptr<const std::string>;  // inside a rendering made by Budget::text()
using List = std::vector<Value>;
using Dict = std::vector<std::pair<Text, Value>>;  // in order of insertion
// What `namespace()` gives: the one thing that `set` changes from inside a loop.
struct Namespace {
  Dict members;
};

struct Value {
  // Copies share, so copying neither allocates nor throws: libstdc++'s variant takes these types
  // for ones that cannot lose their value, and would destroy a half-made one.
  std::variant<Undefined, NoneValue, bool, int64_t, Text, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, std::shared_ptr<Namespace>>
      data;
  int depth = 0;  // of lists and objects inside each other; limited, because freeing them recurses

  template <class T>
  const T* get() const {
    return std::get_if<T>(&data);
  }
  const std::string* text() const { return pointee<const std::string>(); }
  const List* list() const { return pointee<const List>(); }
  const Dict* dict() const { return pointee<const Dict>(); }
  Namespace* space() const { return pointee<Namespace>(); }
  bool defined() const { return !std::holds_alternative<Undefined>(data); }
  bool none() const { return std::holds_alternative<NoneValue>(data); }

 private:
  template <class T>
  T* pointee() const {
    const auto* pointer = std::get_if<std::shared_ptr<T>>(&data);
    return pointer != nullptr ? pointer->get() : nullptr;
  }
};

inline Text make_text(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}
// Errors: Unsupported for a namespace inside, or more than 32 levels.
Value make_list(List items);
Value make_dict(Dict members);

bool truth(const Value& value);
// Python's ==. Errors: Unsupported for two lists or objects, neither empty.
bool equal(const Value& a, const Value& b, Budget& budget);
// str(value) of text, numbers, booleans and None; "" when undefined. Errors: Unsupported for the
// others.
Text to_text(const Value& value, Budget& budget);
// The member or null.
const Value* find_member(const Dict& dict, std::string_view key, Budget& budget);

}  // namespace packlight::text::jinja

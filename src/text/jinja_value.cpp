#include "text/jinja_value.h"

#include <algorithm>

#include "text/jinja_budget.h"
#include "text/jinja_syntax.h"

namespace packlight::text::jinja {

namespace {

constexpr int kMaxDepth = 32;

void admit(const Value& item, int* depth) {
  if (item.space() != nullptr) refuse("a namespace in a list or an object");
  *depth = std::max(*depth, item.depth + 1);
  if (*depth > kMaxDepth) refuse("lists nested so deep");
}

}  // namespace

Value make_list(List items) {
  int depth = 1;
  for (const Value& item : items) admit(item, &depth);
  return {std::make_shared<const List>(std::move(items)), depth};
}

Value make_dict(Dict members) {
  int depth = 1;
  for (const auto& member : members) admit(member.second, &depth);
  return {std::make_shared<const Dict>(std::move(members)), depth};
}

bool truth(const Value& value) {
  if (const bool* boolean = value.get<bool>()) return *boolean;
  if (const int64_t* integer = value.get<int64_t>()) return *integer != 0;
  if (const std::string* text = value.text()) return !text->empty();
  if (const List* list = value.list()) return !list->empty();
  if (const Dict* dict = value.dict()) return !dict->empty();
  return value.space() != nullptr;
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  const auto number = [](const Value& v, int64_t* out) {
    if (const bool* boolean = v.get<bool>()) *out = *boolean;
    if (const int64_t* integer = v.get<int64_t>()) *out = *integer;
    return v.get<bool>() != nullptr || v.get<int64_t>() != nullptr;
  };
  int64_t x = 0, y = 0;
  if (number(a, &x) && number(b, &y)) return x == y;
  if (a.text() != nullptr && b.text() != nullptr) {
    if (a.text()->size() == b.text()->size()) budget.charge_copy(a.text()->size());
    return *a.text() == *b.text();
  }
  const bool lists = a.list() != nullptr && b.list() != nullptr,
             dicts = a.dict() != nullptr && b.dict() != nullptr;
  if (lists || dicts) {
    if (truth(a) && truth(b)) refuse("comparing lists or objects");
    return truth(a) == truth(b);
  }
  return (a.none() && b.none()) || (!a.defined() && !b.defined());
}

Text to_text(const Value& value, Budget& budget) {
  if (const Text* text = value.get<Text>()) return *text;
  if (!value.defined()) return budget.text("");
  if (value.none()) return budget.text("None");
  if (const bool* boolean = value.get<bool>()) return budget.text(*boolean ? "True" : "False");
  if (const int64_t* integer = value.get<int64_t>()) return budget.text(std::to_string(*integer));
  refuse("writing out a list or an object");
}

const Value* find_member(const Dict& dict, std::string_view key, Budget& budget) {
  budget.charge_copy(dict.size() * (key.size() + 64));
  for (const auto& [name, value] : dict) {
    if (*name == key) return &value;
  }
  return nullptr;
}

}  // namespace packlight::text::jinja

#include "text/jinja_functions.h"

#include <string.h>  // memmem

#include <algorithm>
#include <string>

#include "base/fail.h"
#include "text/character_class.h"
#include "text/jinja_syntax.h"
#include "text/utf8.h"

namespace packlight::text::jinja {
namespace {

const std::string& text_of(const Value& value, std::string_view user) {
  const std::string* text = value.text();
  if (text == nullptr) refuse(fmt::format("'{}' of something that is no text", user));
  return *text;
}

const std::string& argument(const std::vector<Value>& arguments, size_t index,
                            std::string_view user) {
  if (index >= arguments.size()) refuse(fmt::format("'{}' with so few arguments", user));
  return text_of(arguments[index], user);
}

// text.find(wanted, from), but memmem's time grows with the sizes' sum, not with their product.
size_t find(const std::string& text, const std::string& wanted, size_t from, Budget& budget) {
  budget.charge(1);
  budget.charge_walk(wanted.size());
  const void* found = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  const size_t at =
      found == nullptr ? std::string::npos : static_cast<const char*>(found) - text.data();
  budget.charge_walk(std::min(at, text.size()) - from);
  return at;
}

// str.isspace of one character.
bool is_python_space(uint32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

bool strips(uint32_t c, const std::string* characters) {
  if (characters == nullptr) return is_python_space(c);
  for (size_t i = 0; i < characters->size();) {
    const Utf8Char candidate = decode_utf8(std::string_view(*characters).substr(i));
    if (candidate.length == 0) refuse("broken UTF-8");
    if (candidate.code_point == c) return true;
    i += candidate.length;
  }
  return false;
}

// `text` without white space (Python's) or the given characters on the left and right.
Value stripped(const Text& whole, bool left, bool right, const std::string* characters,
               Budget& budget) {
  budget.charge_walk(whole->size() * (1 + (characters != nullptr ? characters->size() : 0)));
  std::string_view text = *whole;
  while (left && !text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (c.length == 0 || !strips(c.code_point, characters)) break;
    text.remove_prefix(c.length);
  }
  while (right && !text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
    const Utf8Char c = decode_utf8(text.substr(begin));
    if (c.length == 0 || !strips(c.code_point, characters)) break;
    text = text.substr(0, begin);
  }
  if (text.size() == whole->size()) return {whole};
  budget.check_room(text.size());
  return {budget.text(std::string(text))};
}

Value change_case(const std::string& text, bool upper, std::string_view user, Budget& budget) {
  budget.charge_walk(text.size());
  budget.check_room(text.size());
  std::string out = text;
  for (char& c : out) {
    if (static_cast<uint8_t>(c) >= 0x80) refuse(fmt::format("'{}' of letters outside ASCII", user));
    if (upper ? (c >= 'a' && c <= 'z') : (c >= 'A' && c <= 'Z')) c ^= 0x20;
  }
  return {budget.text(std::move(out))};
}

Value split(const std::string& text, const std::string& separator, Budget& budget) {
  if (separator.empty()) refuse("'split' by nothing");
  List parts;
  for (size_t begin = 0; begin != std::string::npos;) {
    const size_t at = find(text, separator, begin, budget);
    budget.charge(1);
    budget.check_room(std::min(at, text.size()) - begin);
    parts.push_back({budget.text(text.substr(begin, at == std::string::npos ? at : at - begin))});
    begin = at == std::string::npos ? at : at + separator.size();
  }
  return make_list(std::move(parts));
}

Value replaced(const std::string& text, const std::string& from, const std::string& to,
               Budget& budget) {
  if (from.empty()) refuse("'replace' of nothing");
  std::string out;
  const auto add = [&](std::string_view part) {
    budget.check_room(out.size() + part.size());
    out += part;
  };
  size_t begin = 0;
  for (size_t at; (at = find(text, from, begin, budget)) != std::string::npos;
       begin = at + from.size()) {
    add(std::string_view(text).substr(begin, at - begin));
    add(to);
  }
  add(std::string_view(text).substr(begin));
  return {budget.text(std::move(out))};
}

Value join(const List& list, std::string_view separator, Budget& budget) {
  std::string out;
  const auto add = [&](std::string_view part) {
    budget.charge(1);
    budget.charge_copy(part.size());
    budget.check_room(out.size() + part.size());
    out += part;
  };
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) add(separator);
    add(*to_text(list[i], budget));
  }
  return {budget.text(std::move(out))};
}

int64_t length(const Value& value, Budget& budget) {
  if (const List* list = value.list()) return static_cast<int64_t>(list->size());
  if (const Dict* dict = value.dict()) return static_cast<int64_t>(dict->size());
  if (!value.defined()) return 0;
  const std::string& text = text_of(value, "length");
  budget.charge_walk(text.size());
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

Value dict_method(const Dict& dict, std::string_view method, const std::vector<Value>& arguments,
                  Budget& budget) {
  if (method == "get") {
    const Value* member = find_member(dict, argument(arguments, 0, method), budget);
    return member != nullptr ? *member : arguments.size() > 1 ? arguments[1] : Value{NoneValue{}};
  }
  budget.charge(4 * dict.size());
  List out;
  for (const auto& [key, value] : dict) {
    if (method == "keys") {
      out.push_back({key});
    } else if (method == "values") {
      out.push_back(value);
    } else if (method == "items") {
      out.push_back(make_list({{key}, value}));
    } else {
      refuse(fmt::format("the method '{}'", method));
    }
  }
  return make_list(std::move(out));
}

// `list | selectattr(name)`, `list | selectattr(name, test, operand)`, and the opposite.
Value select_by_attribute(const List& list, bool keep, const std::vector<Value>& arguments,
                          Budget& budget) {
  budget.charge(2 * list.size());
  const std::string& name = argument(arguments, 0, "selectattr");
  const std::string_view test =
      arguments.size() > 1 ? argument(arguments, 1, "selectattr") : std::string_view();
  const std::vector<Value> operands(arguments.begin() + std::min<size_t>(2, arguments.size()),
                                    arguments.end());
  List out;
  for (const Value& item : list) {
    const Value* member =
        item.dict() != nullptr ? find_member(*item.dict(), name, budget) : nullptr;
    const Value value = member != nullptr ? *member : Value{};
    if ((test.empty() ? truth(value) : apply_test(value, test, operands, budget)) == keep)
      out.push_back(item);
  }
  return make_list(std::move(out));
}

}  // namespace

bool contains(const Value& container, const Value& item, Budget& budget) {
  if (const List* list = container.list()) {
    budget.charge(list->size());
    return std::any_of(list->begin(), list->end(),
                       [&](const Value& value) { return equal(value, item, budget); });
  }
  if (const Dict* dict = container.dict()) {
    const std::string* key = item.text();
    return key != nullptr && find_member(*dict, *key, budget) != nullptr;
  }
  if (!container.defined()) return false;
  const std::string &text = text_of(container, "in"), &wanted = text_of(item, "in");
  return find(text, wanted, 0, budget) != std::string::npos;
}

Value call_method(const Value& object, std::string_view method, const std::vector<Value>& arguments,
                  Budget& budget) {
  if (const Dict* dict = object.dict()) return dict_method(*dict, method, arguments, budget);
  const std::string& text = text_of(object, method);
  if (method == "strip" || method == "lstrip" || method == "rstrip") {
    const std::string* characters = arguments.empty() ? nullptr : arguments[0].text();
    return stripped(*object.get<Text>(), method != "rstrip", method != "lstrip", characters,
                    budget);
  }
  if (method == "startswith" || method == "endswith") {
    const std::string& part = argument(arguments, 0, method);
    budget.charge_copy(part.size());
    return {method == "startswith" ? text.starts_with(part) : text.ends_with(part)};
  }
  if (method == "split" && arguments.size() == 1)
    return split(text, argument(arguments, 0, method), budget);
  if (method == "replace" && arguments.size() == 2) {
    return replaced(text, argument(arguments, 0, method), argument(arguments, 1, method), budget);
  }
  if (method == "upper" || method == "lower")
    return change_case(text, method == "upper", method, budget);
  refuse(fmt::format("the method '{}'", method));
}

Value apply_filter(const Value& value, std::string_view filter, const std::vector<Value>& arguments,
                   Budget& budget) {
  if (filter == "trim" && arguments.empty())
    return stripped(to_text(value, budget), true, true, nullptr, budget);
  if (filter == "length" || filter == "count") return {length(value, budget)};
  if (filter == "string") return {to_text(value, budget)};
  if (filter == "safe") return value;
  if (filter == "upper" || filter == "lower")
    return change_case(*to_text(value, budget), filter == "upper", filter, budget);
  if (filter == "default" || filter == "d") {
    const bool also_false = arguments.size() > 1 && truth(arguments[1]);
    const bool replace = !value.defined() || (also_false && !truth(value));
    return !replace ? value : arguments.empty() ? Value{budget.text("")} : arguments[0];
  }
  if (filter == "replace" && arguments.size() == 2) {
    return replaced(*to_text(value, budget), argument(arguments, 0, filter),
                    argument(arguments, 1, filter), budget);
  }
  if (const List* list = value.list()) {
    if (filter == "list") return value;
    if (filter == "selectattr" || filter == "rejectattr") {
      return select_by_attribute(*list, filter == "selectattr", arguments, budget);
    }
    if (filter == "first") return list->empty() ? Value{} : list->front();
    if (filter == "last") return list->empty() ? Value{} : list->back();
    if (filter == "join")
      return join(*list, arguments.empty() ? std::string_view() : argument(arguments, 0, filter),
                  budget);
  }
  refuse(fmt::format("the filter '{}'", filter));
}

bool apply_test(const Value& value, std::string_view test, const std::vector<Value>& arguments,
                Budget& budget) {
  const bool is_text = value.text() != nullptr;
  const bool is_boolean = value.get<bool>() != nullptr;
  const bool is_integer = value.get<int64_t>() != nullptr;
  if (test == "defined") return value.defined();
  if (test == "undefined") return !value.defined();
  if (test == "none") return value.none();
  if (test == "string") return is_text;
  if (test == "boolean") return is_boolean;
  if (test == "integer") return is_integer;
  if (test == "number") return is_integer || is_boolean;
  if (test == "true") return is_boolean && *value.get<bool>();
  if (test == "false") return is_boolean && !*value.get<bool>();
  if (test == "mapping") return value.dict() != nullptr;
  if (test == "iterable" || test == "sequence") {
    // Undefined can be iterated and measured, too.
    return is_text || value.list() != nullptr || value.dict() != nullptr || !value.defined();
  }
  if ((test == "odd" || test == "even") && is_integer)
    return (*value.get<int64_t>() % 2 != 0) == (test == "odd");
  if ((test == "equalto" || test == "eq" || test == "sameas") && arguments.size() == 1)
    return equal(value, arguments[0], budget);
  if (test == "in" && arguments.size() == 1) return contains(arguments[0], value, budget);
  refuse(fmt::format("the test '{}'", test));
}

}  // namespace packlight::text::jinja

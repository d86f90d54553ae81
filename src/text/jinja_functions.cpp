#include "text/jinja_functions.h"

#include <algorithm>
#include <string>

#include "base/fail.h"
#include "text/character_class.h"
#include "text/jinja_syntax.h"
#include "text/utf8.h"

namespace packlight::text::jinja {
namespace {

const std::string& text_of(const Value& value, std::string_view user) {
  const std::string* text = value.get<std::string>();
  if (text == nullptr) refuse(fmt::format("'{}' of something that is no text", user));
  return *text;
}

const std::string& argument(const std::vector<Value>& arguments, size_t index,
                            std::string_view user) {
  if (index >= arguments.size()) refuse(fmt::format("'{}' with so few arguments", user));
  return text_of(arguments[index], user);
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

std::string change_case(const std::string& text, bool upper, std::string_view user) {
  std::string out = text;
  for (char& c : out) {
    if (static_cast<uint8_t>(c) >= 0x80) refuse(fmt::format("'{}' of letters outside ASCII", user));
    if (upper ? (c >= 'a' && c <= 'z') : (c >= 'A' && c <= 'Z')) c ^= 0x20;
  }
  return out;
}

Value split(const std::string& text, const std::string& separator) {
  if (separator.empty()) refuse("'split' by nothing");
  List parts;
  size_t begin = 0;
  for (size_t at; (at = text.find(separator, begin)) != std::string::npos;
       begin = at + separator.size()) {
    parts.push_back({text.substr(begin, at - begin)});
  }
  parts.push_back({text.substr(begin)});
  return make_list(std::move(parts));
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  if (from.empty()) refuse("'replace' of nothing");
  std::string out;
  size_t begin = 0;
  for (size_t at; (at = text.find(from, begin)) != std::string::npos; begin = at + from.size()) {
    out.append(text, begin, at - begin);
    out += to;
  }
  return out + text.substr(begin);
}

int64_t length(const Value& value) {
  if (const List* list = value.list()) return static_cast<int64_t>(list->size());
  if (const Dict* dict = value.dict()) return static_cast<int64_t>(dict->size());
  if (!value.defined()) return 0;
  const std::string& text = text_of(value, "length");
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
}

Value dict_method(const Dict& dict, std::string_view method, const std::vector<Value>& arguments) {
  if (method == "get") {
    const Value* member = find_member(dict, argument(arguments, 0, method));
    return member != nullptr ? *member : arguments.size() > 1 ? arguments[1] : Value{NoneValue{}};
  }
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
Value select_by_attribute(const List& list, bool keep, const std::vector<Value>& arguments) {
  const std::string& name = argument(arguments, 0, "selectattr");
  const std::string test = arguments.size() > 1 ? argument(arguments, 1, "selectattr") : "";
  const std::vector<Value> operands(arguments.begin() + std::min<size_t>(2, arguments.size()),
                                    arguments.end());
  List out;
  for (const Value& item : list) {
    const Value* member = item.dict() != nullptr ? find_member(*item.dict(), name) : nullptr;
    const Value value = member != nullptr ? *member : Value{};
    if ((test.empty() ? truth(value) : apply_test(value, test, operands)) == keep)
      out.push_back(item);
  }
  return make_list(std::move(out));
}

}  // namespace

std::string stripped(std::string_view text, bool left, bool right, const std::string* characters) {
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
  return std::string(text);
}

bool contains(const Value& container, const Value& item) {
  if (const List* list = container.list()) {
    return std::any_of(list->begin(), list->end(),
                       [&](const Value& value) { return equal(value, item); });
  }
  if (const Dict* dict = container.dict()) {
    const std::string* key = item.get<std::string>();
    return key != nullptr && find_member(*dict, *key) != nullptr;
  }
  if (!container.defined()) return false;
  return text_of(container, "in").find(text_of(item, "in")) != std::string::npos;
}

Value call_method(const Value& object, std::string_view method,
                  const std::vector<Value>& arguments) {
  if (const Dict* dict = object.dict()) return dict_method(*dict, method, arguments);
  const std::string& text = text_of(object, method);
  const std::string* characters = arguments.empty() ? nullptr : arguments[0].get<std::string>();
  if (method == "strip") return {stripped(text, true, true, characters)};
  if (method == "lstrip") return {stripped(text, true, false, characters)};
  if (method == "rstrip") return {stripped(text, false, true, characters)};
  if (method == "startswith") return {text.starts_with(argument(arguments, 0, method))};
  if (method == "endswith") return {text.ends_with(argument(arguments, 0, method))};
  if (method == "split" && arguments.size() == 1)
    return split(text, argument(arguments, 0, method));
  if (method == "replace" && arguments.size() == 2) {
    return {replaced(text, argument(arguments, 0, method), argument(arguments, 1, method))};
  }
  if (method == "upper" || method == "lower") return {change_case(text, method == "upper", method)};
  refuse(fmt::format("the method '{}'", method));
}

Value apply_filter(const Value& value, std::string_view filter,
                   const std::vector<Value>& arguments) {
  if (filter == "trim" && arguments.empty()) return {stripped(to_text(value), true, true)};
  if (filter == "length" || filter == "count") return {length(value)};
  if (filter == "string") return {to_text(value)};
  if (filter == "safe") return value;
  if (filter == "upper" || filter == "lower")
    return {change_case(to_text(value), filter == "upper", filter)};
  if (filter == "default" || filter == "d") {
    const bool also_false = arguments.size() > 1 && truth(arguments[1]);
    const bool replace = !value.defined() || (also_false && !truth(value));
    return !replace ? value : arguments.empty() ? Value{std::string()} : arguments[0];
  }
  if (filter == "replace" && arguments.size() == 2) {
    return {
        replaced(to_text(value), argument(arguments, 0, filter), argument(arguments, 1, filter))};
  }
  if (const List* list = value.list()) {
    if (filter == "list") return value;
    if (filter == "selectattr" || filter == "rejectattr") {
      return select_by_attribute(*list, filter == "selectattr", arguments);
    }
    if (filter == "first") return list->empty() ? Value{} : list->front();
    if (filter == "last") return list->empty() ? Value{} : list->back();
    if (filter == "join") {
      std::string out;
      for (size_t i = 0; i < list->size(); ++i) {
        if (i > 0 && !arguments.empty()) out += argument(arguments, 0, filter);
        out += to_text((*list)[i]);
      }
      return {out};
    }
  }
  refuse(fmt::format("the filter '{}'", filter));
}

bool apply_test(const Value& value, std::string_view test, const std::vector<Value>& arguments) {
  const bool is_text = value.get<std::string>() != nullptr;
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
    return equal(value, arguments[0]);
  if (test == "in" && arguments.size() == 1) return contains(arguments[0], value);
  refuse(fmt::format("the test '{}'", test));
}

}  // namespace packlight::text::jinja

#include "text/jinja_sequence.h"

#include <algorithm>
#include <string_view>

#include "text/jinja_syntax.h"
#include "text/utf8.h"

namespace packlight::text::jinja {
namespace {

size_t character_size(std::string_view text) {
  const int length = decode_utf8(text).length;
  if (length == 0) refuse("broken UTF-8");
  return length;
}

int64_t character_count(std::string_view text) {
  int64_t count = 0;
  for (; !text.empty(); text.remove_prefix(character_size(text))) ++count;
  return count;
}

// `text` without its first `count` characters, or empty.
std::string_view after(std::string_view text, int64_t count) {
  for (; count > 0 && !text.empty(); --count) text.remove_prefix(character_size(text));
  return text;
}

std::string reversed(std::string_view text) {
  std::string out(text.size(), '\0');
  for (size_t end = out.size(); !text.empty();) {
    const size_t size = character_size(text);
    end -= size;
    text.copy(out.data() + end, size);
    text.remove_prefix(size);
  }
  return out;
}

// The items that a slice takes, of `count`; from the last to the first when backwards.
struct Range {
  int64_t begin, end;
};

Range range_of(const SliceBounds& bounds, bool backwards, int64_t count) {
  const auto clamp = [&](int64_t index, int64_t low, int64_t high) {
    return std::clamp(index < 0 ? index + count : index, low, high);
  };
  Range range{0, count};
  if (!backwards) {
    if (bounds.start) range.begin = clamp(*bounds.start, 0, count);
    if (bounds.stop) range.end = clamp(*bounds.stop, 0, count);
  } else {
    if (bounds.start) range.end = clamp(*bounds.start, -1, count - 1) + 1;
    if (bounds.stop) range.begin = clamp(*bounds.stop, -1, count - 1) + 1;
  }
  range.end = std::max(range.begin, range.end);
  return range;
}

}  // namespace

std::shared_ptr<const List> items_of(const Value& value, Budget& budget) {
  if (const auto* list = value.get<std::shared_ptr<const List>>()) return *list;
  auto out = std::make_shared<List>();
  if (const Dict* dict = value.dict()) {
    budget.charge(dict->size());
    for (const auto& member : *dict) out->push_back({member.first});
  } else if (const std::string* text = value.text()) {
    budget.charge(2 * text->size());
    for (std::string_view rest = *text; !rest.empty();) {
      const size_t size = character_size(rest);
      out->push_back({budget.text(std::string(rest.substr(0, size)))});
      rest.remove_prefix(size);
    }
  } else if (value.defined()) {
    refuse("a loop over something that is no list");
  }
  return out;
}

Value item_at(const Value& value, int64_t index, Budget& budget) {
  if (const List* list = value.list()) {
    const auto count = static_cast<int64_t>(list->size());
    if (index < 0) index += count;
    return index >= 0 && index < count ? (*list)[index] : Value{};
  }
  const std::string* text = value.text();
  if (text == nullptr) refuse("an item of something that has none");
  if (index < 0) {
    budget.charge_walk(text->size());
    index += character_count(*text);
  }
  if (index < 0 || index >= static_cast<int64_t>(text->size())) return {};
  budget.charge_walk(index);
  const std::string_view rest = after(*text, index);
  return rest.empty() ? Value{}
                      : Value{budget.text(std::string(rest.substr(0, character_size(rest))))};
}

Value slice(const Value& value, const SliceBounds& bounds, Budget& budget) {
  const int64_t step = bounds.step.value_or(1);
  if (step != 1 && step != -1) refuse("a slice with that step");
  if (const List* list = value.list()) {
    const Range range = range_of(bounds, step < 0, static_cast<int64_t>(list->size()));
    budget.charge(range.end - range.begin);
    List out(list->begin() + range.begin, list->begin() + range.end);
    if (step < 0) std::reverse(out.begin(), out.end());
    return make_list(std::move(out));
  }
  const std::string* text = value.text();
  if (text == nullptr) refuse("a slice of something that has no items");
  budget.charge_walk(2 * text->size());
  const Range range = range_of(bounds, step < 0, character_count(*text));
  const std::string_view begin = after(*text, range.begin),
                         end = after(begin, range.end - range.begin);
  const std::string_view taken = begin.substr(0, begin.size() - end.size());
  budget.check_room(taken.size());
  return {budget.text(step < 0 ? reversed(taken) : std::string(taken))};
}

}  // namespace packlight::text::jinja

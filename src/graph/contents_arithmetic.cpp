#include "graph/contents_arithmetic.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

namespace packlight::graph {
namespace {

using Element = InferContext::Element;
using Elements = InferContext::Elements;

// Shapes have few elements; a longer vector is data.
constexpr int64_t kMaxElements = 64;

struct Range {
  int64_t low, high;
};
std::optional<Range> range_of(ElementType type) {
  switch (type) {
    case ElementType::kI64:
      return Range{std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()};
    case ElementType::kI32:
      return Range{std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()};
    case ElementType::kI16:
      return Range{std::numeric_limits<int16_t>::min(), std::numeric_limits<int16_t>::max()};
    case ElementType::kI8:
      return Range{std::numeric_limits<int8_t>::min(), std::numeric_limits<int8_t>::max()};
    case ElementType::kU8:
      return Range{0, std::numeric_limits<uint8_t>::max()};
    case ElementType::kBool:
      return Range{0, 1};
    default:
      return std::nullopt;
  }
}

std::optional<Elements> small_contents(const InferContext& context, size_t input) {
  const auto& shape = context.shape(input);
  if (!shape || shape->size() > 1 || !range_of(context.type(input))) return std::nullopt;
  if (shape->size() == 1 && (!(*shape)[0].known() || (*shape)[0].value > kMaxElements))
    return std::nullopt;
  const size_t count = shape->empty() ? 1 : static_cast<size_t>((*shape)[0].value);
  auto elements = context.contents(input);
  if (elements && elements->size() != count) return std::nullopt;
  return elements;
}

bool is_number(const Element& element, int64_t number) { return element.number == number; }
bool same(const Element& a, const Element& b) {
  return a.number ? a.number == b.number : !b.number && !a.symbol.empty() && a.symbol == b.symbol;
}
// A dimension, so never negative.
bool is_symbol(const Element& element) { return !element.number && !element.symbol.empty(); }

// What an operator makes of two numbers, and what it knows about symbols.
struct Rule {
  std::optional<int64_t> (*numbers)(int64_t, int64_t);
  Element (*symbols)(const Element&, const Element&);
};

std::optional<int64_t> add(int64_t a, int64_t b) {
  return __builtin_add_overflow(a, b, &a) ? std::nullopt : std::optional(a);
}
std::optional<int64_t> subtract(int64_t a, int64_t b) {
  return __builtin_sub_overflow(a, b, &a) ? std::nullopt : std::optional(a);
}
std::optional<int64_t> multiply(int64_t a, int64_t b) {
  return __builtin_mul_overflow(a, b, &a) ? std::nullopt : std::optional(a);
}
bool divides_badly(int64_t a, int64_t b) {
  return b == 0 || (b == -1 && a == std::numeric_limits<int64_t>::min());
}
std::optional<int64_t> divide(int64_t a, int64_t b) {
  return divides_badly(a, b) ? std::nullopt : std::optional(a / b);
}
std::optional<int64_t> modulo(int64_t a, int64_t b) {  // the sign of the divisor
  if (divides_badly(a, b)) return std::nullopt;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
std::optional<int64_t> smaller(int64_t a, int64_t b) { return std::min(a, b); }
std::optional<int64_t> larger(int64_t a, int64_t b) { return std::max(a, b); }
std::optional<int64_t> equal(int64_t a, int64_t b) { return a == b ? 1 : 0; }
std::optional<int64_t> less(int64_t a, int64_t b) { return a < b ? 1 : 0; }
std::optional<int64_t> greater(int64_t a, int64_t b) { return a > b ? 1 : 0; }

Element no_symbols(const Element&, const Element&) { return {}; }
Element symbol_plus(const Element& a, const Element& b) {
  return is_number(b, 0) ? a : is_number(a, 0) ? b : Element{};
}
Element symbol_minus(const Element& a, const Element& b) {
  return is_number(b, 0) ? a : same(a, b) ? Element{0, ""} : Element{};
}
Element symbol_times(const Element& a, const Element& b) {
  if (is_number(a, 0) || is_number(b, 0)) return {0, ""};
  return is_number(b, 1) ? a : is_number(a, 1) ? b : Element{};
}
Element symbol_over(const Element& a, const Element& b) { return is_number(b, 1) ? a : Element{}; }
Element symbol_or_same(const Element& a, const Element& b) { return same(a, b) ? a : Element{}; }
Element symbol_equals(const Element& a, const Element& b) {
  if (same(a, b)) return {1, ""};
  const bool differ =
      (is_symbol(a) && b.number && *b.number < 0) || (is_symbol(b) && a.number && *a.number < 0);
  return differ ? Element{0, ""} : Element{};
}

const std::unordered_map<std::string_view, Rule> kRules = {
    {"Add", {add, symbol_plus}},
    {"Sub", {subtract, symbol_minus}},
    {"Mul", {multiply, symbol_times}},
    {"Div", {divide, symbol_over}},
    {"Mod", {modulo, no_symbols}},
    {"Min", {smaller, symbol_or_same}},
    {"Max", {larger, symbol_or_same}},
    {"Equal", {equal, symbol_equals}},
    {"Less", {less, no_symbols}},
    {"Greater", {greater, no_symbols}},
    {"ReduceSum", {add, symbol_plus}},
    {"ReduceProd", {multiply, symbol_times}},
    {"ReduceMin", {smaller, symbol_or_same}},
    {"ReduceMax", {larger, symbol_or_same}},
};

Element combined(const Rule& rule, const Element& a, const Element& b, const Range& range) {
  if (!a.number || !b.number) return rule.symbols(a, b);
  const auto result = rule.numbers(*a.number, *b.number);
  if (!result || *result < range.low || *result > range.high) return {};
  return {*result, ""};
}

// The length to which vectors of lengths a and b broadcast; shape inference has checked it.
size_t common_length(size_t a, size_t b) { return a == 1 ? b : a; }
const Element& at(const Elements& elements, size_t i) {
  return elements[elements.size() == 1 ? 0 : i];
}

}  // namespace

void arithmetic_contents(InferContext& context) {
  const auto rule = kRules.find(context.node().op);
  const auto range = range_of(context.type(0));
  if (rule == kRules.end() || !range || context.node().integer("fmod", 0) != 0) return;
  auto result = small_contents(context, 0);
  for (size_t i = 1; result && i < context.input_count(); ++i) {
    const auto next = small_contents(context, i);
    if (!next) return;
    Elements out;
    for (size_t k = 0; k < common_length(result->size(), next->size()); ++k)
      out.push_back(combined(rule->second, at(*result, k), at(*next, k), *range));
    result = std::move(out);
  }
  if (result) context.set_contents(0, std::move(*result));
}

void where_contents(InferContext& context) {
  const auto condition = small_contents(context, 0), yes = small_contents(context, 1),
             no = small_contents(context, 2);
  if (!condition || !yes || !no) return;
  Elements out;
  const size_t length = common_length(condition->size(), common_length(yes->size(), no->size()));
  for (size_t i = 0; i < length; ++i) {
    const Element &chosen = at(*condition, i), &a = at(*yes, i), &b = at(*no, i);
    out.push_back(chosen.number ? (*chosen.number != 0 ? a : b) : symbol_or_same(a, b));
  }
  context.set_contents(0, std::move(out));
}

void cast_contents(InferContext& context, ElementType to) {
  const auto range = range_of(to);
  auto elements = small_contents(context, 0);
  if (!range || !elements) return;
  for (Element& element : *elements) {
    if (to == ElementType::kBool) {
      element = element.number ? Element{*element.number != 0 ? 1 : 0, ""} : Element{};
    } else if (element.number && (*element.number < range->low || *element.number > range->high)) {
      element = {};
    }
  }
  context.set_contents(0, std::move(*elements));
}

void reduction_contents(InferContext& context) {
  const auto rule = kRules.find(context.node().op);
  const auto range = range_of(context.type(0));
  const auto elements = small_contents(context, 0);
  const bool over_all = !context.has(1) || (context.integers(1) && !context.integers(1)->empty());
  if (rule == kRules.end() || !range || !elements || elements->empty() || !over_all ||
      context.node().integer("noop_with_empty_axes", 0) != 0)
    return;
  Element result = (*elements)[0];
  for (size_t i = 1; i < elements->size(); ++i)
    result = combined(rule->second, result, (*elements)[i], *range);
  context.set_contents(0, {result});
}

}  // namespace packlight::graph

#include "text/jinja_interpreter.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "base/fail.h"
#include "text/jinja_budget.h"
#include "text/jinja_functions.h"
#include "text/jinja_sequence.h"
#include "text/shown.h"

namespace packlight::text::jinja {
namespace {

using Kind = Expression::Kind;

// What `loop` is in the turn of the i-th item.
Value loop_object(const List& items, int64_t i) {
  static const Text index = make_text("index"), index0 = make_text("index0"),
                    revindex = make_text("revindex"), revindex0 = make_text("revindex0"),
                    first = make_text("first"), last = make_text("last"),
                    length = make_text("length"), previtem = make_text("previtem"),
                    nextitem = make_text("nextitem");
  const auto count = static_cast<int64_t>(items.size());
  return make_dict({{index, {i + 1}},
                    {index0, {i}},
                    {revindex, {count - i}},
                    {revindex0, {count - i - 1}},
                    {first, {i == 0}},
                    {last, {i + 1 == count}},
                    {length, {count}},
                    {previtem, i > 0 ? items[i - 1] : Value{}},
                    {nextitem, i + 1 < count ? items[i + 1] : Value{}}});
}

class Interpreter {
 public:
  explicit Interpreter(Dict variables) {
    scopes_.emplace_back();
    for (auto& [name, value] : variables) scopes_[0][*name] = std::move(value);
  }

  std::string run(const Block& block) {
    execute(block);
    return std::move(out_);
  }

 private:
  void execute(const Block& block) {
    for (const Statement& statement : block) {
      budget_.charge(1);
      switch (statement.kind) {
        case Statement::Kind::kText:
          write(statement.text);
          break;
        case Statement::Kind::kOutput:
          write(*to_text(evaluate(*statement.expressions[0]), budget_));
          break;
        case Statement::Kind::kIf:
          execute_if(statement);
          break;
        case Statement::Kind::kFor:
          execute_for(statement);
          break;
        case Statement::Kind::kSet:
          execute_set(statement);
          break;
      }
    }
  }

  void write(const std::string& text) {
    budget_.hold(text.size());
    out_ += text;
  }

  void execute_if(const Statement& statement) {
    size_t branch = 0;
    while (branch < statement.expressions.size() &&
           !truth(evaluate(*statement.expressions[branch])))
      ++branch;
    if (branch < statement.blocks.size()) execute(statement.blocks[branch]);
  }

  void execute_set(const Statement& statement) {
    Value value = evaluate(*statement.expressions[0]);
    if (statement.targets.size() == 1) {
      scopes_.back()[statement.targets[0]] = std::move(value);
      return;
    }
    const Value target = lookup(statement.targets[0]);
    Namespace* space = target.space();
    if (space == nullptr) refuse("'set' of a member of anything but a namespace");
    if (value.space() != nullptr) refuse("a namespace in a namespace");
    const std::string& name = statement.targets[1];
    budget_.charge_copy(space->members.size() * (name.size() + 64));
    const auto it = std::find_if(space->members.begin(), space->members.end(),
                                 [&](const auto& member) { return *member.first == name; });
    if (it != space->members.end()) {
      it->second = std::move(value);
    } else {
      space->members.emplace_back(budget_.text(name), std::move(value));
    }
  }

  void bind(const std::vector<std::string>& targets, const Value& item) {
    if (targets.size() == 1) {
      scopes_.back()[targets[0]] = item;
      return;
    }
    const List* parts = item.list();
    if (parts == nullptr || parts->size() != targets.size())
      refuse("a loop that unpacks something else than pairs");
    budget_.charge(targets.size());
    for (size_t i = 0; i < targets.size(); ++i) scopes_.back()[targets[i]] = (*parts)[i];
  }

  void execute_for(const Statement& statement) {
    std::shared_ptr<const List> items = items_of(evaluate(*statement.expressions[0]), budget_);
    if (const Expression* filter = statement.expressions[1].get()) {
      List kept;
      for (const Value& item : *items) {
        budget_.charge(1);
        scopes_.emplace_back();
        bind(statement.targets, item);
        if (truth(evaluate(*filter))) kept.push_back(item);
        scopes_.pop_back();
      }
      items = std::make_shared<const List>(std::move(kept));
    }
    const auto count = static_cast<int64_t>(items->size());
    for (int64_t i = 0; i < count; ++i) {
      budget_.charge(2);
      scopes_.emplace_back();
      bind(statement.targets, (*items)[i]);
      scopes_.back()["loop"] = loop_object(*items, i);
      execute(statement.blocks[0]);
      scopes_.pop_back();
    }
    if (count == 0 && statement.blocks.size() > 1) execute(statement.blocks[1]);
  }

  Value lookup(const std::string& name) {
    budget_.charge(scopes_.size() / 8);
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto it = scope->find(name);
      if (it != scope->end()) return it->second;
    }
    return {};
  }

  Value evaluate(const Expression& e) {
    budget_.charge(1);
    switch (e.kind) {
      case Kind::kString:
        return {budget_.text(e.text)};
      case Kind::kInteger:
        return {e.integer};
      case Kind::kTrue:
        return {true};
      case Kind::kFalse:
        return {false};
      case Kind::kNone:
        return {NoneValue{}};
      case Kind::kName:
        return lookup(e.text);
      case Kind::kList:
        return make_list(evaluate_all(e, 0));
      case Kind::kDict:
        return dict(e);
      case Kind::kAttribute:
        return member(evaluate(*e.parts[0]), e.text);
      case Kind::kItem:
        return item(e);
      case Kind::kSlice:
        return slice_of(e);
      case Kind::kCall:
        return call(e);
      case Kind::kFilter:
        if (!e.names.empty()) refuse("a filter with a named argument");
        return apply_filter(evaluate(*e.parts[0]), e.text, evaluate_all(e, 1), budget_);
      case Kind::kTest:
        return {apply_test(evaluate(*e.parts[0]), e.text, evaluate_all(e, 1), budget_) !=
                e.negated};
      case Kind::kNot:
        return {!truth(evaluate(*e.parts[0]))};
      case Kind::kMinus:
        return {-integer(evaluate(*e.parts[0]))};
      case Kind::kBinary:
        return binary(e);
      case Kind::kCompare:
        return compare(e);
      case Kind::kConditional:
        if (truth(evaluate(*e.parts[1]))) return evaluate(*e.parts[0]);
        return e.parts[2] ? evaluate(*e.parts[2]) : Value{};
    }
    return {};
  }

  List evaluate_all(const Expression& e, size_t from) {
    List out;
    for (size_t i = from; i < e.parts.size(); ++i) out.push_back(evaluate(*e.parts[i]));
    return out;
  }

  static int64_t integer(const Value& value) {
    if (const int64_t* number = value.get<int64_t>()) return *number;
    if (const bool* boolean = value.get<bool>()) return *boolean ? 1 : 0;
    refuse("arithmetic on something that is no integer");
  }

  Value dict(const Expression& e) {
    Dict out;
    for (size_t i = 0; i + 1 < e.parts.size(); i += 2) {
      const Value key = evaluate(*e.parts[i]);
      if (key.text() == nullptr) refuse("an object whose key is no text");
      out.emplace_back(*key.get<Text>(), evaluate(*e.parts[i + 1]));
    }
    return make_dict(std::move(out));
  }

  Value member(const Value& object, const std::string& name) {
    if (!object.defined()) refuse(fmt::format("'.{}' of something undefined", name));
    const Dict* dict = object.space() != nullptr ? &object.space()->members : object.dict();
    const Value* found = dict != nullptr ? find_member(*dict, name, budget_) : nullptr;
    return found != nullptr ? *found : Value{};
  }

  Value item(const Expression& e) {
    const Value object = evaluate(*e.parts[0]), key = evaluate(*e.parts[1]);
    if (const std::string* name = key.text()) return member(object, *name);
    return item_at(object, integer(key), budget_);
  }

  std::optional<int64_t> bound(const ExpressionPtr& e) {
    if (!e) return std::nullopt;
    const Value value = evaluate(*e);
    return value.none() ? std::nullopt : std::optional(integer(value));
  }

  Value slice_of(const Expression& e) {
    const Value object = evaluate(*e.parts[0]);
    SliceBounds bounds;
    bounds.start = bound(e.parts[1]);
    bounds.stop = bound(e.parts[2]);
    bounds.step = bound(e.parts[3]);
    return slice(object, bounds, budget_);
  }

  Value call(const Expression& e) {
    const Expression& callee = *e.parts[0];
    if (callee.kind == Kind::kName) return call_function(callee.text, e);
    if (callee.kind != Kind::kAttribute || !e.names.empty()) refuse("a call like that");
    return call_method(evaluate(*callee.parts[0]), callee.text, evaluate_all(e, 1), budget_);
  }

  Value call_function(const std::string& name, const Expression& e) {
    List arguments = evaluate_all(e, 1);
    if (name == "raise_exception" && arguments.size() == 1) {
      fail(ErrorCode::kInvalidArgument, "[text] the chat template refuses this conversation: {}",
           shown(*to_text(arguments[0], budget_), 400));
    }
    if (name == "namespace" && arguments.size() == e.names.size()) {
      auto space = std::make_shared<Namespace>();
      for (size_t i = 0; i < arguments.size(); ++i)
        space->members.emplace_back(budget_.text(e.names[i]), std::move(arguments[i]));
      return {std::move(space)};
    }
    if (name == "range" && !arguments.empty() && arguments.size() <= 2 && e.names.empty()) {
      const int64_t first = arguments.size() == 2 ? integer(arguments[0]) : 0;
      const int64_t last = integer(arguments.back());
      List out;
      for (int64_t i = first; i < last; ++i) {
        budget_.charge(1);
        out.push_back({i});
      }
      return make_list(std::move(out));
    }
    refuse(fmt::format("the function '{}'", name));
  }

  Value binary(const Expression& e) {
    Value left = evaluate(*e.parts[0]);
    if (e.text == "and") return truth(left) ? evaluate(*e.parts[1]) : left;
    if (e.text == "or") return truth(left) ? left : evaluate(*e.parts[1]);
    const Value right = evaluate(*e.parts[1]);
    if (e.text == "~") return joined(*to_text(left, budget_), *to_text(right, budget_));
    if (e.text == "+" && left.text() != nullptr && right.text() != nullptr)
      return joined(*left.text(), *right.text());
    if (e.text == "+" && left.list() != nullptr && right.list() != nullptr) {
      const List &a = *left.list(), &b = *right.list();
      budget_.charge(a.size() + b.size());
      List out = a;
      out.insert(out.end(), b.begin(), b.end());
      return make_list(std::move(out));
    }
    return {arithmetic(e.text, integer(left), integer(right))};
  }

  Value joined(const std::string& a, const std::string& b) {
    budget_.check_room(a.size() + b.size());
    return {budget_.text(a + b)};
  }

  static int64_t arithmetic(const std::string& op, int64_t a, int64_t b) {
    // Loop counters and the like; anything larger is no chat template.
    constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
    if (std::abs(a) > kLimit || std::abs(b) > kLimit) refuse("arithmetic on so large a number");
    if (op == "+") return a + b;
    if (op == "-") return a - b;
    if (op == "*") return a * b;
    if (b == 0) refuse("a division by zero");
    const int64_t floor = a / b - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0);
    return op == "//" ? floor : a - floor * b;
  }

  Value compare(const Expression& e) {
    Value left = evaluate(*e.parts[0]);
    for (size_t i = 0; i < e.names.size(); ++i) {
      Value right = evaluate(*e.parts[i + 1]);
      if (!holds(e.names[i], left, right)) return {false};
      left = std::move(right);
    }
    return {true};
  }

  bool holds(const std::string& op, const Value& left, const Value& right) {
    if (op == "==") return equal(left, right, budget_);
    if (op == "!=") return !equal(left, right, budget_);
    if (op == "in") return contains(right, left, budget_);
    if (op == "not in") return !contains(right, left, budget_);
    const std::string *a = left.text(), *b = right.text();
    int64_t order = 0;
    if (a != nullptr && b != nullptr) {
      budget_.charge_copy(std::min(a->size(), b->size()));
      order = a->compare(*b);
    } else {
      const int64_t x = integer(left), y = integer(right);
      order = x < y ? -1 : x > y ? 1 : 0;
    }
    return op == "<" ? order < 0 : op == ">" ? order > 0 : op == "<=" ? order <= 0 : order >= 0;
  }

  Budget budget_;  // outlives the texts below
  std::vector<std::map<std::string, Value, std::less<>>> scopes_;
  std::string out_;
};

}  // namespace

std::string render(const Block& block, Dict variables) {
  return Interpreter(std::move(variables)).run(block);
}

}  // namespace packlight::text::jinja

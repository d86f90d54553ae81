#include "text/jinja_interpreter.h"

#include <algorithm>
#include <limits>
#include <map>

#include "base/fail.h"
#include "text/jinja_functions.h"
#include "text/shown.h"
#include "text/utf8.h"

namespace packlight::text::jinja {
namespace {

using Kind = Expression::Kind;

constexpr int64_t kMaxSteps = 1000000;
constexpr size_t kMaxText = size_t{64} << 20;

// A Python slice of `count` items as the indices it takes.
std::vector<int64_t> slice_indices(int64_t count, const int64_t* start, const int64_t* stop,
                                   int64_t step) {
  const auto clamp = [&](int64_t index, int64_t low, int64_t high) {
    if (index < 0) index += count;
    return std::clamp(index, low, high);
  };
  std::vector<int64_t> out;
  if (step > 0) {
    const int64_t end = stop != nullptr ? clamp(*stop, 0, count) : count;
    for (int64_t i = start != nullptr ? clamp(*start, 0, count) : 0; i < end; i += step)
      out.push_back(i);
  } else {
    const int64_t end = stop != nullptr ? clamp(*stop, -1, count - 1) : -1;
    for (int64_t i = start != nullptr ? clamp(*start, -1, count - 1) : count - 1; i > end;
         i += step)
      out.push_back(i);
  }
  return out;
}

std::vector<std::string> characters_of(std::string_view text) {
  std::vector<std::string> out;
  for (size_t i = 0; i < text.size();) {
    const int length = decode_utf8(text.substr(i)).length;
    if (length == 0) refuse("broken UTF-8");
    out.emplace_back(text.substr(i, length));
    i += length;
  }
  return out;
}

class Interpreter {
 public:
  explicit Interpreter(Dict variables) {
    scopes_.emplace_back();
    for (auto& [name, value] : variables) scopes_[0][name] = std::move(value);
  }

  std::string run(const Block& block) {
    execute(block);
    return std::move(out_);
  }

 private:
  void step() {
    if (++steps_ > kMaxSteps) refuse("a template that takes more than a million steps");
  }

  std::string checked(std::string text) const {
    if (text.size() > kMaxText) refuse("text of more than 64 MB");
    return text;
  }

  void execute(const Block& block) {
    for (const Statement& statement : block) {
      step();
      switch (statement.kind) {
        case Statement::Kind::kText:
          write(statement.text);
          break;
        case Statement::Kind::kOutput:
          write(to_text(evaluate(*statement.expressions[0])));
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
    if (out_.size() + text.size() > kMaxText) refuse("text of more than 64 MB");
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
    const auto* space = target.get<std::shared_ptr<Namespace>>();
    if (space == nullptr) refuse("'set' of a member of anything but a namespace");
    if (value.get<std::shared_ptr<Namespace>>() != nullptr) refuse("a namespace in a namespace");
    Dict& members = (*space)->members;
    const auto it = std::find_if(members.begin(), members.end(), [&](const auto& member) {
      return member.first == statement.targets[1];
    });
    if (it != members.end()) {
      it->second = std::move(value);
    } else {
      members.emplace_back(statement.targets[1], std::move(value));
    }
  }

  List iterate(const Value& value) const {
    if (const List* list = value.list()) return *list;
    List out;
    if (const Dict* dict = value.dict()) {
      for (const auto& member : *dict) out.push_back({member.first});
    } else if (const std::string* text = value.get<std::string>()) {
      for (std::string& character : characters_of(*text)) out.push_back({std::move(character)});
    } else if (value.defined()) {
      refuse("a loop over something that is no list");
    }
    return out;
  }

  void bind(const std::vector<std::string>& targets, const Value& item) {
    if (targets.size() == 1) {
      scopes_.back()[targets[0]] = item;
      return;
    }
    const List* parts = item.list();
    if (parts == nullptr || parts->size() != targets.size())
      refuse("a loop that unpacks something else than pairs");
    for (size_t i = 0; i < targets.size(); ++i) scopes_.back()[targets[i]] = (*parts)[i];
  }

  void execute_for(const Statement& statement) {
    List items = iterate(evaluate(*statement.expressions[0]));
    if (const Expression* filter = statement.expressions[1].get()) {
      List kept;
      for (const Value& item : items) {
        step();
        scopes_.emplace_back();
        bind(statement.targets, item);
        if (truth(evaluate(*filter))) kept.push_back(item);
        scopes_.pop_back();
      }
      items = std::move(kept);
    }
    const auto count = static_cast<int64_t>(items.size());
    for (int64_t i = 0; i < count; ++i) {
      step();
      scopes_.emplace_back();
      bind(statement.targets, items[i]);
      scopes_.back()["loop"] = make_dict({{"index", {i + 1}},
                                          {"index0", {i}},
                                          {"revindex", {count - i}},
                                          {"revindex0", {count - i - 1}},
                                          {"first", {i == 0}},
                                          {"last", {i + 1 == count}},
                                          {"length", {count}},
                                          {"previtem", i > 0 ? items[i - 1] : Value{}},
                                          {"nextitem", i + 1 < count ? items[i + 1] : Value{}}});
      execute(statement.blocks[0]);
      scopes_.pop_back();
    }
    if (count == 0 && statement.blocks.size() > 1) execute(statement.blocks[1]);
  }

  Value lookup(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto it = scope->find(name);
      if (it == scope->end()) continue;
      // Copying long texts over and over counts as work, too.
      if (const std::string* text = it->second.get<std::string>())
        steps_ += static_cast<int64_t>(text->size() / 4096);
      return it->second;
    }
    return {};
  }

  Value evaluate(const Expression& e) {
    step();
    switch (e.kind) {
      case Kind::kString:
        return {e.text};
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
        return item(evaluate(*e.parts[0]), evaluate(*e.parts[1]));
      case Kind::kSlice:
        return slice(e);
      case Kind::kCall:
        return call(e);
      case Kind::kFilter:
        if (!e.names.empty()) refuse("a filter with a named argument");
        return limited(apply_filter(evaluate(*e.parts[0]), e.text, evaluate_all(e, 1)));
      case Kind::kTest:
        return {apply_test(evaluate(*e.parts[0]), e.text, evaluate_all(e, 1)) != e.negated};
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

  Value limited(Value value) const {
    const std::string* text = value.get<std::string>();
    if (text != nullptr && text->size() > kMaxText) refuse("text of more than 64 MB");
    return value;
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
      if (key.get<std::string>() == nullptr) refuse("an object whose key is no text");
      out.emplace_back(*key.get<std::string>(), evaluate(*e.parts[i + 1]));
    }
    return make_dict(std::move(out));
  }

  Value member(const Value& object, const std::string& name) const {
    const Value* found = nullptr;
    if (const Dict* dict = object.dict()) found = find_member(*dict, name);
    if (const auto* space = object.get<std::shared_ptr<Namespace>>())
      found = find_member((*space)->members, name);
    if (!object.defined()) refuse(fmt::format("'.{}' of something undefined", name));
    return found != nullptr ? *found : Value{};
  }

  Value item(const Value& object, const Value& key) const {
    if (const std::string* name = key.get<std::string>()) return member(object, *name);
    int64_t index = integer(key);
    if (const List* list = object.list()) {
      if (index < 0) index += static_cast<int64_t>(list->size());
      return index >= 0 && index < static_cast<int64_t>(list->size()) ? (*list)[index] : Value{};
    }
    if (const std::string* text = object.get<std::string>()) {
      const std::vector<std::string> characters = characters_of(*text);
      if (index < 0) index += static_cast<int64_t>(characters.size());
      return index >= 0 && index < static_cast<int64_t>(characters.size())
                 ? Value{characters[index]}
                 : Value{};
    }
    refuse("an item of something that has none");
  }

  Value slice(const Expression& e) {
    const Value object = evaluate(*e.parts[0]);
    int64_t bounds[3] = {0, 0, 1};
    const int64_t* given[3] = {nullptr, nullptr, nullptr};
    for (size_t i = 0; i < 3; ++i) {
      if (!e.parts[i + 1]) continue;
      const Value bound = evaluate(*e.parts[i + 1]);
      if (bound.none()) continue;
      bounds[i] = integer(bound);
      given[i] = &bounds[i];
    }
    if (bounds[2] != 1 && bounds[2] != -1) refuse("a slice with that step");
    if (const List* list = object.list()) {
      List out;
      for (const int64_t i :
           slice_indices(static_cast<int64_t>(list->size()), given[0], given[1], bounds[2])) {
        out.push_back((*list)[i]);
      }
      return make_list(std::move(out));
    }
    if (const std::string* text = object.get<std::string>()) {
      const std::vector<std::string> characters = characters_of(*text);
      std::string out;
      for (const int64_t i :
           slice_indices(static_cast<int64_t>(characters.size()), given[0], given[1], bounds[2])) {
        out += characters[i];
      }
      return {out};
    }
    refuse("a slice of something that has no items");
  }

  Value call(const Expression& e) {
    const Expression& callee = *e.parts[0];
    if (callee.kind == Kind::kName) return call_function(callee.text, e);
    if (callee.kind != Kind::kAttribute || !e.names.empty()) refuse("a call like that");
    return limited(call_method(evaluate(*callee.parts[0]), callee.text, evaluate_all(e, 1)));
  }

  Value call_function(const std::string& name, const Expression& e) {
    List arguments = evaluate_all(e, 1);
    if (name == "raise_exception" && arguments.size() == 1) {
      fail(ErrorCode::kInvalidArgument, "[text] the chat template refuses this conversation: {}",
           shown(to_text(arguments[0]), 400));
    }
    if (name == "namespace" && arguments.size() == e.names.size()) {
      auto space = std::make_shared<Namespace>();
      for (size_t i = 0; i < arguments.size(); ++i)
        space->members.emplace_back(e.names[i], std::move(arguments[i]));
      return {std::move(space)};
    }
    if (name == "range" && !arguments.empty() && arguments.size() <= 2 && e.names.empty()) {
      const int64_t first = arguments.size() == 2 ? integer(arguments[0]) : 0;
      const int64_t last = integer(arguments.back());
      List out;
      for (int64_t i = first; i < last; ++i) {
        step();
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
    if (e.text == "~") return {checked(to_text(left) + to_text(right))};
    const std::string *a = left.get<std::string>(), *b = right.get<std::string>();
    if (e.text == "+" && a != nullptr && b != nullptr) return {checked(*a + *b)};
    if (e.text == "+" && left.list() != nullptr && right.list() != nullptr) {
      List out = *left.list();
      steps_ += static_cast<int64_t>(out.size() + right.list()->size());
      out.insert(out.end(), right.list()->begin(), right.list()->end());
      return make_list(std::move(out));
    }
    return {arithmetic(e.text, integer(left), integer(right))};
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

  static bool holds(const std::string& op, const Value& left, const Value& right) {
    if (op == "==") return equal(left, right);
    if (op == "!=") return !equal(left, right);
    if (op == "in") return contains(right, left);
    if (op == "not in") return !contains(right, left);
    const std::string *a = left.get<std::string>(), *b = right.get<std::string>();
    int64_t order = 0;
    if (a != nullptr && b != nullptr) {
      order = a->compare(*b);
    } else {
      const int64_t x = integer(left), y = integer(right);
      order = x < y ? -1 : x > y ? 1 : 0;
    }
    return op == "<" ? order < 0 : op == ">" ? order > 0 : op == "<=" ? order <= 0 : order >= 0;
  }

  std::vector<std::map<std::string, Value, std::less<>>> scopes_;
  std::string out_;
  int64_t steps_ = 0;
};

}  // namespace

std::string render(const Block& block, Dict variables) {
  return Interpreter(std::move(variables)).run(block);
}

}  // namespace packlight::text::jinja

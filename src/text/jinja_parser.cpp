#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "base/fail.h"
#include "text/jinja_lexer.h"
#include "text/jinja_syntax.h"
#include "text/shown.h"

namespace packlight::text::jinja {
namespace {

using Kind = Expression::Kind;

constexpr int kMaxDepth = 100;
constexpr int kMaxHeight = 500;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Block run() {
    Block block = statements({});
    if (peek().kind != Token::Kind::kFinish) refuse(fmt::format("'{}' in this place", peek().text));
    return block;
  }

 private:
  // Refuses templates that nest so deep that reading them could exhaust the stack.
  class Depth {
   public:
    explicit Depth(int* depth) : depth_(depth) {
      if (++*depth_ > kMaxDepth) refuse("so deep nesting");
    }
    ~Depth() { --*depth_; }

   private:
    int* depth_;
  };

  const Token& peek() const { return tokens_[at_]; }
  Token take() {
    if (peek().kind == Token::Kind::kFinish) refuse("a template that ends in the middle");
    return tokens_[at_++];
  }
  bool at(Token::Kind kind, std::string_view text) const {
    return peek().kind == kind && peek().text == text;
  }
  bool at_operator(std::string_view text) const { return at(Token::Kind::kOperator, text); }
  bool at_name(std::string_view text) const { return at(Token::Kind::kName, text); }
  bool accept_operator(std::string_view text) { return at_operator(text) && ++at_; }
  bool accept_name(std::string_view text) { return at_name(text) && ++at_; }
  void expect_operator(std::string_view text) {
    if (!accept_operator(text)) refuse(fmt::format("'{}' where '{}' belongs", peek().text, text));
  }
  void expect_end() {
    if (take().kind != Token::Kind::kEnd)
      refuse(fmt::format("'{}' in a tag", tokens_[at_ - 1].text));
  }
  std::string name() {
    Token token = take();
    if (token.kind != Token::Kind::kName)
      refuse(fmt::format("'{}' where a name belongs", token.text));
    return token.text;
  }

  // Up to a statement named in `ends`, whose "{%" is taken and whose name is not.
  Block statements(std::initializer_list<std::string_view> ends) {
    const Depth depth(&depth_);
    Block block;
    while (peek().kind != Token::Kind::kFinish) {
      const Token token = take();
      if (token.kind == Token::Kind::kText) {
        Statement text;
        text.text = token.text;
        block.push_back(std::move(text));
      } else if (token.kind == Token::Kind::kOutput) {
        Statement output;
        output.kind = Statement::Kind::kOutput;
        output.expressions.push_back(expression());
        expect_end();
        block.push_back(std::move(output));
      } else {
        if (std::find(ends.begin(), ends.end(), peek().text) != ends.end()) return block;
        block.push_back(statement());
      }
    }
    if (ends.size() != 0) refuse(fmt::format("a block without its '{}'", *(ends.end() - 1)));
    return block;
  }

  Statement statement() {
    const std::string keyword = name();
    if (keyword == "if") return if_statement();
    if (keyword == "for") return for_statement();
    if (keyword == "set") return set_statement();
    refuse(fmt::format("the statement '{}'", keyword));
  }

  Statement if_statement() {
    Statement out;
    out.kind = Statement::Kind::kIf;
    bool more = true;
    while (more) {
      out.expressions.push_back(expression());
      expect_end();
      out.blocks.push_back(statements({"elif", "else", "endif"}));
      more = accept_name("elif");
    }
    if (accept_name("else")) {
      expect_end();
      out.blocks.push_back(statements({"endif"}));
    }
    if (name() != "endif") refuse("an 'if' without its 'endif'");
    expect_end();
    return out;
  }

  Statement for_statement() {
    Statement out;
    out.kind = Statement::Kind::kFor;
    const bool parenthesis = accept_operator("(");
    do {
      out.targets.push_back(name());
    } while (accept_operator(","));
    if (parenthesis) expect_operator(")");
    if (!accept_name("in")) refuse("a 'for' without 'in'");
    out.expressions.push_back(or_expression());  // "if" here begins the filter
    out.expressions.push_back(accept_name("if") ? expression() : nullptr);
    expect_end();
    out.blocks.push_back(statements({"else", "endfor"}));
    if (accept_name("else")) {
      expect_end();
      out.blocks.push_back(statements({"endfor"}));
    }
    if (name() != "endfor") refuse("a 'for' without its 'endfor'");
    expect_end();
    return out;
  }

  Statement set_statement() {
    Statement out;
    out.kind = Statement::Kind::kSet;
    out.targets.push_back(name());
    if (accept_operator(".")) out.targets.push_back(name());
    expect_operator("=");
    out.expressions.push_back(expression());
    expect_end();
    return out;
  }

  static ExpressionPtr make(Kind kind, std::string text = "") {
    auto out = std::make_unique<Expression>();
    out->kind = kind;
    out->text = std::move(text);
    return out;
  }
  template <class... Parts>
  static ExpressionPtr make(Kind kind, std::string text, ExpressionPtr first, Parts... rest) {
    ExpressionPtr out = make(kind, std::move(text));
    add(out.get(), std::move(first));
    (add(out.get(), std::move(rest)), ...);
    return out;
  }
  static void add(Expression* to, ExpressionPtr part) {
    if (part) to->height = std::max(to->height, part->height + 1);
    if (to->height > kMaxHeight) refuse("so long an expression");
    to->parts.push_back(std::move(part));
  }

  ExpressionPtr expression() {
    const Depth depth(&depth_);
    ExpressionPtr value = or_expression();
    while (accept_name("if")) {
      ExpressionPtr condition = or_expression();
      ExpressionPtr other = accept_name("else") ? expression() : nullptr;
      value =
          make(Kind::kConditional, "", std::move(value), std::move(condition), std::move(other));
    }
    return value;
  }

  ExpressionPtr or_expression() {
    ExpressionPtr left = and_expression();
    while (accept_name("or")) left = make(Kind::kBinary, "or", std::move(left), and_expression());
    return left;
  }

  ExpressionPtr and_expression() {
    ExpressionPtr left = not_expression();
    while (accept_name("and")) left = make(Kind::kBinary, "and", std::move(left), not_expression());
    return left;
  }

  ExpressionPtr not_expression() {
    const Depth depth(&depth_);
    if (accept_name("not")) return make(Kind::kNot, "", not_expression());
    return comparison();
  }

  ExpressionPtr comparison() {
    ExpressionPtr left = sum();
    ExpressionPtr out;
    while (true) {
      std::string op;
      for (const std::string_view candidate : {"==", "!=", "<=", ">=", "<", ">"}) {
        if (op.empty() && accept_operator(candidate)) op = candidate;
      }
      if (op.empty() && accept_name("in")) op = "in";
      if (op.empty() && at_name("not") && tokens_[at_ + 1].text == "in") {
        at_ += 2;
        op = "not in";
      }
      if (op.empty()) return out ? std::move(out) : std::move(left);
      if (!out) out = make(Kind::kCompare, "", std::move(left));
      out->names.push_back(op);
      add(out.get(), sum());
    }
  }

  ExpressionPtr sum() { return binary({"+", "-"}, &Parser::concatenation); }
  ExpressionPtr concatenation() { return binary({"~"}, &Parser::product); }
  ExpressionPtr product() { return binary({"*", "//", "%"}, &Parser::unary); }

  ExpressionPtr binary(std::initializer_list<std::string_view> operators,
                       ExpressionPtr (Parser::*operand)()) {
    ExpressionPtr left = (this->*operand)();
    while (peek().kind == Token::Kind::kOperator &&
           std::find(operators.begin(), operators.end(), peek().text) != operators.end()) {
      const std::string op = take().text;
      left = make(Kind::kBinary, op, std::move(left), (this->*operand)());
    }
    return left;
  }

  ExpressionPtr unary() {
    const Depth depth(&depth_);
    if (accept_operator("-")) return make(Kind::kMinus, "", unary());
    return filtered(postfix(primary()));
  }

  ExpressionPtr primary() {
    const Token token = take();
    if (token.kind == Token::Kind::kString) {
      ExpressionPtr out = make(Kind::kString, token.text);
      while (peek().kind == Token::Kind::kString) out->text += take().text;
      return out;
    }
    if (token.kind == Token::Kind::kInteger) {
      ExpressionPtr out = make(Kind::kInteger);
      out->integer = std::stoll(token.text);
      return out;
    }
    if (token.kind == Token::Kind::kName) {
      if (token.text == "true" || token.text == "True") return make(Kind::kTrue);
      if (token.text == "false" || token.text == "False") return make(Kind::kFalse);
      if (token.text == "none" || token.text == "None") return make(Kind::kNone);
      return make(Kind::kName, token.text);
    }
    if (token.kind == Token::Kind::kOperator && token.text == "(") return parenthesis();
    if (token.kind == Token::Kind::kOperator && token.text == "[") return list();
    if (token.kind == Token::Kind::kOperator && token.text == "{") return dict();
    refuse(fmt::format("'{}' in an expression", token.text));
  }

  ExpressionPtr parenthesis() {
    if (at_operator(")")) refuse("an empty tuple");
    ExpressionPtr first = expression();
    if (!at_operator(",")) {
      expect_operator(")");
      return first;
    }
    ExpressionPtr out = make(Kind::kList, "", std::move(first));
    while (accept_operator(",") && !at_operator(")")) add(out.get(), expression());
    expect_operator(")");
    return out;
  }

  ExpressionPtr list() {
    ExpressionPtr out = make(Kind::kList);
    while (!at_operator("]")) {
      add(out.get(), expression());
      if (!accept_operator(",")) break;
    }
    expect_operator("]");
    return out;
  }

  ExpressionPtr dict() {
    ExpressionPtr out = make(Kind::kDict);
    while (!at_operator("}")) {
      add(out.get(), expression());
      expect_operator(":");
      add(out.get(), expression());
      if (!accept_operator(",")) break;
    }
    expect_operator("}");
    return out;
  }

  ExpressionPtr postfix(ExpressionPtr value) {
    while (true) {
      if (accept_operator(".")) {
        if (peek().kind == Token::Kind::kInteger) refuse("an item by '.'");
        value = make(Kind::kAttribute, name(), std::move(value));
      } else if (accept_operator("[")) {
        value = subscript(std::move(value));
      } else if (at_operator("(")) {
        value = make(Kind::kCall, "", std::move(value));
        arguments(value.get());
      } else {
        return value;
      }
    }
  }

  ExpressionPtr subscript(ExpressionPtr value) {
    std::array<ExpressionPtr, 3> bounds;
    int colons = 0;
    while (!at_operator("]")) {
      if (accept_operator(":")) {
        if (++colons > 2) refuse("a slice like that");
      } else {
        if (bounds[colons]) refuse("a subscript like that");
        bounds[colons] = expression();
      }
    }
    expect_operator("]");
    if (colons > 0) {
      return make(Kind::kSlice, "", std::move(value), std::move(bounds[0]), std::move(bounds[1]),
                  std::move(bounds[2]));
    }
    if (!bounds[0]) refuse("an empty subscript");
    return make(Kind::kItem, "", std::move(value), std::move(bounds[0]));
  }

  // "(a, b, name=c)"
  void arguments(Expression* call) {
    expect_operator("(");
    while (!at_operator(")")) {
      if (peek().kind == Token::Kind::kName && tokens_[at_ + 1].kind == Token::Kind::kOperator &&
          tokens_[at_ + 1].text == "=") {
        call->names.push_back(name());
        expect_operator("=");
      } else if (!call->names.empty()) {
        refuse("a positional argument after a named one");
      }
      add(call, expression());
      if (!accept_operator(",")) break;
    }
    expect_operator(")");
  }

  ExpressionPtr filtered(ExpressionPtr value) {
    while (true) {
      if (accept_operator("|")) {
        value = make(Kind::kFilter, name(), std::move(value));
        if (at_operator("(")) arguments(value.get());
        value = postfix(std::move(value));
      } else if (accept_name("is")) {
        const bool negated = accept_name("not");
        value = make(Kind::kTest, name(), std::move(value));
        value->negated = negated;
        test_arguments(value.get());
      } else {
        return value;
      }
    }
  }

  // Tests take "(a)" or a bare operand.
  void test_arguments(Expression* test) {
    if (at_operator("(")) {
      arguments(test);
      return;
    }
    const bool keyword = at_name("else") || at_name("or") || at_name("and") || at_name("is") ||
                         at_name("if") || at_name("in") || at_name("not");
    const bool operand =
        peek().kind == Token::Kind::kString || peek().kind == Token::Kind::kInteger ||
        (peek().kind == Token::Kind::kName && !keyword) || at_operator("[") || at_operator("{");
    if (operand) add(test, postfix(primary()));
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

void refuse(std::string_view what) {
  fail(ErrorCode::kUnsupported,
       "[text] chat template: {} is not supported; use --raw and write the prompt's turns yourself",
       shown(what, 200));
}

Block parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace packlight::text::jinja

#include "text/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "base/fail.h"
#include "text/jinja_syntax.h"
#include "text/utf8.h"

namespace packlight::text::jinja {
namespace {

constexpr size_t kMaxName = 256;  // names are copied and compared all the time

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

// Jinja reads "\r\n" and "\r" as "\n" and drops one newline at the end.
std::string normalised(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalised(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t tag = next_tag();
      text_before(tag);
      if (tag == std::string::npos) break;
      at_ = tag;
      if (source_[tag + 1] == '#') {
        comment();
      } else {
        expression_tag();
      }
    }
    tokens_.push_back({Token::Kind::kFinish, ""});
    return std::move(tokens_);
  }

 private:
  size_t next_tag() const {
    for (size_t i = source_.find('{', at_); i != std::string::npos; i = source_.find('{', i + 1)) {
      const char next = i + 1 < source_.size() ? source_[i + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return std::string::npos;
  }

  // Text up to `tag`, stripped as the tag asks ("{%-") or as lstrip_blocks does.
  void text_before(size_t tag) {
    std::string_view text =
        std::string_view(source_).substr(at_, tag == std::string::npos ? tag : tag - at_);
    if (tag != std::string::npos) {
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      if (sign == '-') {
        while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
      } else if (sign != '+' && source_[tag + 1] != '{') {
        const size_t newline = text.rfind('\n');
        const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
        const bool only_space = std::all_of(text.begin() + line, text.end(), is_space);
        if (only_space && (line > 0 || line_starting_)) text = text.substr(0, line);
      }
    }
    if (!text.empty()) tokens_.push_back({Token::Kind::kText, std::string(text)});
  }

  // After a closing tag: "-" takes all white space, trim_blocks one newline (not after }}).
  void after_tag(bool strips, bool trims) {
    const size_t begin = at_;
    if (strips) {
      while (at_ < source_.size() && is_space(source_[at_])) ++at_;
    } else if (trims && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;
    }
    line_starting_ = at_ > begin && source_[at_ - 1] == '\n';
  }

  void comment() {
    const size_t end = source_.find("#}", at_ + 2);
    if (end == std::string::npos) refuse("a comment without an end");
    const char sign = end > at_ + 2 ? source_[end - 1] : '\0';
    at_ = end + 2;
    after_tag(sign == '-', sign != '+');
  }

  void expression_tag() {
    const bool output = source_[at_ + 1] == '{';
    tokens_.push_back({output ? Token::Kind::kOutput : Token::Kind::kStatement, ""});
    at_ += 2;
    if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) ++at_;
    const std::string_view close = output ? "}}" : "%}";
    int open = 0;  // brackets: "}}" may end two dicts
    while (true) {
      while (at_ < source_.size() && is_space(source_[at_])) ++at_;
      const std::string_view rest = std::string_view(source_).substr(at_);
      if (rest.empty()) refuse("a tag without an end");
      const bool signed_end =
          (rest[0] == '-' || (rest[0] == '+' && !output)) && rest.substr(1).starts_with(close);
      if (open == 0 && (signed_end || rest.starts_with(close))) {
        at_ += close.size() + (signed_end ? 1 : 0);
        tokens_.push_back({Token::Kind::kEnd, ""});
        after_tag(signed_end && rest[0] == '-', !output && !signed_end);
        return;
      }
      token(rest);
      const std::string& last = tokens_.back().text;
      if (tokens_.back().kind == Token::Kind::kOperator) {
        if (last == "(" || last == "[" || last == "{") ++open;
        if (last == ")" || last == "]" || last == "}") open = std::max(0, open - 1);
      }
    }
  }

  void token(std::string_view rest) {
    if (is_name_start(rest[0])) {
      size_t n = 1;
      while (n < rest.size() && (is_name_start(rest[n]) || is_digit(rest[n]))) ++n;
      if (n > kMaxName) refuse(fmt::format("a name of {} letters", n));
      add(Token::Kind::kName, rest.substr(0, n));
    } else if (is_digit(rest[0])) {
      size_t n = 1;
      while (n < rest.size() && is_digit(rest[n])) ++n;
      if (n > 9 || (n + 1 < rest.size() && rest[n] == '.' && is_digit(rest[n + 1])))
        refuse("a number like that");
      add(Token::Kind::kInteger, rest.substr(0, n));
    } else if (rest[0] == '\'' || rest[0] == '"') {
      string(rest);
    } else {
      constexpr std::array<std::string_view, 26> kOperators = {
          "//", "==", "!=", "<=", ">=", "**", "+", "-", "*", "/", "%", "~", "<",
          ">",  "(",  ")",  "[",  "]",  "{",  "}", ",", ":", ".", "|", "=", ";"};
      const auto it = std::find_if(kOperators.begin(), kOperators.end(),
                                   [&](std::string_view op) { return rest.starts_with(op); });
      if (it == kOperators.end()) refuse(fmt::format("the character '{}' in a tag", rest[0]));
      add(Token::Kind::kOperator, *it);
    }
  }

  void add(Token::Kind kind, std::string_view text) {
    tokens_.push_back({kind, std::string(text)});
    at_ += text.size();
  }

  // Python's escapes; an unknown one keeps its backslash.
  void string(std::string_view rest) {
    std::string value;
    size_t i = 1;
    for (; i < rest.size() && rest[i] != rest[0]; ++i) {
      if (rest[i] != '\\' || i + 1 >= rest.size()) {
        value += rest[i];
        continue;
      }
      const char c = rest[++i];
      constexpr std::string_view kLetters = "nrtabfv\\'\"", kValues = "\n\r\t\a\b\f\v\\'\"";
      const size_t known = kLetters.find(c);
      if (known != std::string_view::npos) {
        value += kValues[known];
      } else if (c == 'x' || c == 'u') {
        i += code_point(rest.substr(i + 1), c == 'x' ? 2 : 4, &value);
      } else if (is_digit(c) || c == 'U' || c == 'N' || c == '\n') {
        refuse("this escape in a string");
      } else {
        value += '\\';
        value += c;
      }
    }
    if (i >= rest.size()) refuse("a string without an end");
    tokens_.push_back({Token::Kind::kString, std::move(value)});
    at_ += i + 1;
  }

  size_t code_point(std::string_view digits, size_t count, std::string* out) {
    uint32_t value = 0;
    if (digits.size() < count) refuse("this escape in a string");
    for (const char c : digits.substr(0, count)) {
      const bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'f';
      if (!is_digit(c) && !letter) refuse("this escape in a string");
      value = value * 16 + (letter ? (c | 0x20) - 'a' + 10 : c - '0');
    }
    if (value >= 0xD800 && value <= 0xDFFF) refuse("a surrogate in a string");
    append_utf8(value, out);
    return count;
  }

  std::string source_;
  size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace packlight::text::jinja

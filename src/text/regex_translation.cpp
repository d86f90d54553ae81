#include "text/regex_translation.h"

#include <array>

#include "base/fail.h"
#include "text/shown.h"

namespace packlight::text {
namespace {

// White space as Oniguruma and llama.cpp have it (Unicode's White_Space); what stands between the
// brackets of a set.
constexpr std::string_view kSpaces =
    R"(\x{09}-\x{0D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

constexpr std::array<std::string_view, 36> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd",
    "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm",
    "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Co", "Han"};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape(false);
      } else if (c == '[') {
        set();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else if (c == '.' || c == '^' || c == '$') {
        refuse("an anchor or any-character");
      } else {
        take();
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    fail(ErrorCode::kUnsupported,
         "[text] pre-tokenizer pattern '{}': {} at offset {} is not supported", shown(pattern_),
         what, at_);
  }
  char peek(size_t ahead) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  void take(size_t count = 1) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }

  void escape(bool in_set) {
    const char c = peek(1);
    if (c == 's') {
      out_ += in_set ? std::string(kSpaces) : "[" + std::string(kSpaces) + "]";
      at_ += 2;
    } else if (c == 'S' && !in_set) {
      out_ += "[^" + std::string(kSpaces) + "]";
      at_ += 2;
    } else if (c == 'p' || c == 'P') {
      category();
    } else if (c == 'r' || c == 'n' || c == 't' ||
               (c != '\0' &&
                std::string_view("\\'\"[](){}.*+?|^$-/&<>~#").find(c) != std::string_view::npos)) {
      take(2);
    } else if (c == 'd') {  // Oniguruma: decimal digits of every script, as PCRE2 with UCP
      take(2);
    } else {
      refuse("this escape");
    }
  }

  void category() {
    const size_t close = pattern_.find('}', at_);
    if (peek(2) != '{' || close == std::string_view::npos) refuse("this property");
    std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    if (!name.empty() && name.front() == '^') name.remove_prefix(1);
    bool known = false;
    for (const std::string_view category : kCategories) known = known || category == name;
    if (!known) refuse("this property");
    take(close + 1 - at_);
  }

  void set() {
    take();
    if (peek(0) == '^') take();
    if (peek(0) == ']') refuse("a bracket that opens with ']'");
    while (peek(0) != ']') {
      if (at_ >= pattern_.size()) refuse("an open bracket");
      if (peek(0) == '[' || (peek(0) == '&' && peek(1) == '&')) refuse("a set inside a set");
      if (peek(0) == '\\') {
        escape(true);
      } else {
        take();
      }
    }
    take();
  }

  void group() {
    if (peek(1) != '?') refuse("a capturing group");
    if (peek(2) == ':' || peek(2) == '=' || peek(2) == '!') {
      take(3);
    } else if (peek(2) == 'i' && peek(3) == ':') {
      take(4);
    } else {
      refuse("this group");
    }
  }

  void interval() {
    size_t end = at_ + 1;
    bool digits = false;
    while (end < pattern_.size() &&
           ((pattern_[end] >= '0' && pattern_[end] <= '9') || pattern_[end] == ',')) {
      digits = digits || (end == at_ + 1 && pattern_[end] != ',');
      ++end;
    }
    if (!digits || end >= pattern_.size() || pattern_[end] != '}') refuse("this brace");
    take(end + 1 - at_);
    if (peek(0) == '+')
      refuse("'+' after an interval");  // possessive in PCRE2, a repeat in Oniguruma
  }

  std::string_view pattern_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_regex(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace packlight::text

#include "text/character_class.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <string>

#include "base/fail.h"
#include "text/utf8.h"

namespace packlight::text {

bool is_white_space(uint32_t code_point) {
  return (code_point >= 0x09 && code_point <= 0x0D) || code_point == 0x20 || code_point == 0x85 ||
         code_point == 0xA0 || code_point == 0x1680 ||
         (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x2028 ||
         code_point == 0x2029 || code_point == 0x202F || code_point == 0x205F ||
         code_point == 0x3000;
}

bool is_word_character(uint32_t code_point) {
  static const std::unique_ptr<pcre2_code, void (*)(pcre2_code*)> code = [] {
    constexpr char kPattern[] = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])";
    int error = 0;
    PCRE2_SIZE where = 0;
    return std::unique_ptr<pcre2_code, void (*)(pcre2_code*)>(
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern), PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP, &error, &where, nullptr),
        pcre2_code_free);
  }();
  if (!code)
    fail(ErrorCode::kUnsupported,
         "[text] this PCRE2 has no binary Unicode properties (10.40 or newer needed)");
  std::string character;
  append_utf8(code_point, &character);
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  return match && pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(character.data()),
                              character.size(), 0, 0, match.get(), nullptr) > 0;
}

}  // namespace packlight::text

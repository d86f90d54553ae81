#pragma once

#include <string>
#include <string_view>

namespace packlight::text {

// A pattern of tokenizer.json (Oniguruma, Ruby syntax) in PCRE2's syntax, matching the same text
// under PCRE2_UTF and PCRE2_UCP. Only constructs with the same meaning in both pass: literals,
// \p{..}, \s \S (spelt out: PCRE2 counts U+180E, Unicode does not), \r \n \t, sets without nesting,
// (?:), (?i:), look-ahead, alternatives, quantifiers. Errors: Unsupported, naming the construct and
// its place.
std::string translate_regex(std::string_view pattern);

}  // namespace packlight::text

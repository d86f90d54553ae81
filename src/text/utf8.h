#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace packlight::text {

// One character at the start of `bytes`. length 0: the bytes there are no character (`bytes` may be
// empty).
struct Utf8Char {
  uint32_t code_point = 0;
  int length = 0;
};

// Well-formed UTF-8 only: no overlong form, no surrogate, nothing above U+10FFFF.
Utf8Char decode_utf8(std::string_view bytes);

void append_utf8(uint32_t code_point, std::string* out);

// Length of the longest prefix of `bytes` that some well-formed character could still begin with
// but does not complete (1 to 3), or 0 when the bytes cannot become a character.
int incomplete_utf8(std::string_view bytes);

// Every maximal ill-formed part becomes U+FFFD (Unicode 15, section 3.9, "substitution of maximal
// subparts").
std::string replace_ill_formed(std::string_view bytes);

// As llama.cpp reads text for byte-level BPE: each byte that begins no character becomes U+FFFD,
// overlong forms become the character they spell. Surrogates become U+FFFD here (llama.cpp keeps
// them). Returns whether `out` was needed; otherwise `bytes` is well-formed and `out` untouched.
bool sanitise_utf8(std::string_view bytes, std::string* out);

bool is_utf8(std::string_view bytes);

}  // namespace packlight::text

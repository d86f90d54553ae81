#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace packlight::text {

// Byte-level BPE spells every byte as a printable character: bytes 21-7E, A1-AC and AE-FF as the
// code point of the same value, the other 68 in ascending order as U+0100, U+0101, … Source:
// GPT-2's bytes_to_unicode.
const std::array<uint16_t, 256>& byte_characters();

// -1: the character spells no byte.
int byte_of_character(uint32_t code_point);

std::string spell_bytes(std::string_view bytes);

// Appends the bytes that `spelling` stands for; false (and `out` unchanged) when a character spells
// no byte.
bool append_spelt_bytes(std::string_view spelling, std::string* out);

}  // namespace packlight::text

#pragma once

#include <cstdint>

namespace packlight::text {

// Unicode's White_Space, as Rust's regex and Oniguruma have it for \s.
bool is_white_space(uint32_t code_point);

// \w of Rust's regex: Alphabetic, M, Nd, Pc, Join_Control.
bool is_word_character(uint32_t code_point);

}  // namespace packlight::text

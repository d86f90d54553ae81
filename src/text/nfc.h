#pragma once

#include <string>
#include <string_view>

namespace packlight::text {

// Unicode normalization form C of well-formed UTF-8 (UAX #15). Text of characters below U+0300 only
// is returned as it is.
std::string compose_nfc(std::string_view text);

}  // namespace packlight::text

#include "text/shown.h"

#include <fmt/format.h>

#include "text/utf8.h"

namespace packlight::text {

std::string shown(std::string_view text, size_t longest) {
  const bool cut = text.size() > longest;
  std::string out;
  for (const char c : replace_ill_formed(text.substr(0, longest))) {
    if (static_cast<uint8_t>(c) >= 0x20 && c != 0x7F) {
      out += c;
    } else {
      out += c == '\n' ? "\\n" : fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
    }
  }
  return cut ? out + "…" : out;
}

}  // namespace packlight::text

#include "text/byte_level.h"

#include "text/utf8.h"

namespace packlight::text {
namespace {

constexpr uint32_t kCharacters = 0x100 + 68;

struct Tables {
  std::array<uint16_t, 256> character{};
  std::array<int16_t, kCharacters> byte{};
  Tables() {
    byte.fill(-1);
    uint16_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      character[b] = printable ? static_cast<uint16_t>(b) : next++;
      byte[character[b]] = static_cast<int16_t>(b);
    }
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

}  // namespace

const std::array<uint16_t, 256>& byte_characters() { return tables().character; }

int byte_of_character(uint32_t code_point) {
  return code_point < kCharacters ? tables().byte[code_point] : -1;
}

std::string spell_bytes(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) append_utf8(byte_characters()[static_cast<uint8_t>(c)], &out);
  return out;
}

bool append_spelt_bytes(std::string_view spelling, std::string* out) {
  const size_t before = out->size();
  for (size_t i = 0; i < spelling.size();) {
    const Utf8Char c = decode_utf8(spelling.substr(i));
    const int byte = c.length > 0 ? byte_of_character(c.code_point) : -1;
    if (byte < 0) {
      out->resize(before);
      return false;
    }
    *out += static_cast<char>(byte);
    i += c.length;
  }
  return true;
}

}  // namespace packlight::text

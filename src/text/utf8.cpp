#include "text/utf8.h"

namespace packlight::text {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

uint8_t byte_at(std::string_view bytes, size_t i) { return static_cast<uint8_t>(bytes[i]); }

// The range the second byte must lie in (Unicode 15, table 3-7); first is 0xC2..0xF4.
void second_byte_range(uint8_t first, uint8_t* low, uint8_t* high) {
  *low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  *high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
}

int sequence_length(uint8_t first) {
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

}  // namespace

Utf8Char decode_utf8(std::string_view bytes) {
  if (bytes.empty()) return {};
  const uint8_t first = byte_at(bytes, 0);
  if (first < 0x80) return {first, 1};
  const int length = sequence_length(first);
  if (length == 0 || bytes.size() < static_cast<size_t>(length)) return {};
  uint8_t low, high;
  second_byte_range(first, &low, &high);
  uint32_t code_point = first & (0x7F >> length);
  for (int i = 1; i < length; ++i) {
    const uint8_t next = byte_at(bytes, i);
    if (next < low || next > high) return {};
    code_point = (code_point << 6) | (next & 0x3F);
    low = 0x80, high = 0xBF;
  }
  return {code_point, length};
}

void append_utf8(uint32_t code_point, std::string* out) {
  if (code_point < 0x80) {
    *out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    *out += static_cast<char>(0xC0 | (code_point >> 6));
    *out += static_cast<char>(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    *out += static_cast<char>(0xE0 | (code_point >> 12));
    *out += static_cast<char>(0x80 | ((code_point >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (code_point & 0x3F));
  } else {
    *out += static_cast<char>(0xF0 | (code_point >> 18));
    *out += static_cast<char>(0x80 | ((code_point >> 12) & 0x3F));
    *out += static_cast<char>(0x80 | ((code_point >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (code_point & 0x3F));
  }
}

int incomplete_utf8(std::string_view bytes) {
  if (bytes.empty()) return 0;
  const int length = sequence_length(byte_at(bytes, 0));
  if (length < 2) return 0;
  uint8_t low, high;
  second_byte_range(byte_at(bytes, 0), &low, &high);
  int have = 1;
  while (have < length && have < static_cast<int>(bytes.size()) && byte_at(bytes, have) >= low &&
         byte_at(bytes, have) <= high) {
    low = 0x80, high = 0xBF;
    ++have;
  }
  return have == length ? 0 : have;
}

std::string replace_ill_formed(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const int length = decode_utf8(bytes.substr(i)).length;
    if (length > 0) {
      out.append(bytes.substr(i, length));
      i += length;
    } else {
      out += kReplacement;
      const int bad = incomplete_utf8(bytes.substr(i));
      i += bad > 0 ? bad : 1;
    }
  }
  return out;
}

bool sanitise_utf8(std::string_view bytes, std::string* out) {
  size_t i = 0;
  while (i < bytes.size()) {
    if (byte_at(bytes, i) < 0x80) {
      ++i;
      continue;
    }
    const int length = decode_utf8(bytes.substr(i)).length;
    if (length == 0) break;
    i += length;
  }
  if (i == bytes.size()) return false;
  out->assign(bytes.substr(0, i));
  while (i < bytes.size()) {
    const Utf8Char c = decode_utf8(bytes.substr(i));
    if (c.length > 0) {
      out->append(bytes.substr(i, c.length));
      i += c.length;
      continue;
    }
    // An overlong form has the bit pattern of a character but too many bytes for it.
    const uint8_t first = byte_at(bytes, i);
    const int spelt = first < 0xC0 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF8 ? 4 : 0;
    uint32_t code_point = first & (0x7F >> (spelt > 0 ? spelt : 7));
    bool pattern = spelt > 0 && i + spelt <= bytes.size();
    for (int k = 1; pattern && k < spelt; ++k) {
      pattern = (byte_at(bytes, i + k) & 0xC0) == 0x80;
      code_point = (code_point << 6) | (byte_at(bytes, i + k) & 0x3F);
    }
    if (pattern && code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF)) {
      append_utf8(code_point, out);
      i += spelt;
    } else if (pattern && code_point <= 0x10FFFF) {
      *out += kReplacement;  // a surrogate: one character, one replacement
      i += spelt;
    } else {
      *out += kReplacement;
      ++i;
    }
  }
  return true;
}

bool is_utf8(std::string_view bytes) {
  std::string scratch;
  return !sanitise_utf8(bytes, &scratch);
}

}  // namespace packlight::text

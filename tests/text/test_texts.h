#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace packlight::test {

inline std::string awkward_text() {
  return base::read_text_file(PACKLIGHT_SOURCE_DIR "/tests/text/awkward.txt");
}

// The same as "long" in tests/oracle/tokenizer_texts.py: a megabyte of the awkward text's lines in
// another order.
inline std::string long_text() {
  const std::string awkward = awkward_text();
  std::vector<std::string> lines(1);
  for (const char c : awkward) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += c;
    }
  }
  std::string out;
  uint64_t state = 1;
  for (size_t size = 0; size < (1u << 20);) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const std::string& line = lines[(state >> 33) % lines.size()];
    if (size > 0) out += ' ';
    out += line;
    size += line.size() + 1;
  }
  return out;
}

// FNV-1a 64 of the ids as little-endian int32.
inline uint64_t fnv1a(const std::vector<int32_t>& ids) {
  uint64_t value = 0xCBF29CE484222325u;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ ((static_cast<uint32_t>(id) >> shift) & 0xFF)) * 0x100000001B3u;
    }
  }
  return value;
}

}  // namespace packlight::test

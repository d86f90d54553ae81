#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "packlight/error.h"

namespace packlight::test {

using Bytes = std::vector<std::byte>;
using Parse = std::function<void(std::span<const std::byte>)>;

// Builds files byte by byte, little endian.
class ByteBuilder {
 public:
  template <class T>
  ByteBuilder& put(T value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  ByteBuilder& text(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  ByteBuilder& string(std::string_view s) {
    return put<uint64_t>(s.size()).text(s);
  }  // GGUF's form
  ByteBuilder& zeros(size_t count) {
    bytes_.resize(bytes_.size() + count);
    return *this;
  }
  ByteBuilder& align(size_t alignment) {
    return zeros((alignment - bytes_.size() % alignment) % alignment);
  }
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

// Any outcome but a return or an Error is a failure (and a sanitizer sees what a crash would hide).
// The copy ends where the input ends, so that reading past it is seen.
inline bool parses(std::span<const std::byte> bytes, const Parse& parse) {
  const Bytes copy(bytes.begin(), bytes.end());
  try {
    parse(copy);
    return true;
  } catch (const Error& e) {
    EXPECT_NE(e.code(), ErrorCode::kInternal) << e.what();
    return false;
  }
}

// Every beginning shorter than `needed` must be refused.
inline void expect_truncations_refused(std::span<const std::byte> bytes, size_t needed,
                                       const Parse& parse) {
  for (size_t size = 0; size < needed; ++size) {
    ASSERT_FALSE(parses(bytes.first(size), parse))
        << "cut to " << size << " of " << bytes.size() << " bytes";
  }
}

// Every byte of the head replaced by extremes and neighbours: parsed or refused, nothing else.
inline void try_mutations(std::span<const std::byte> bytes, size_t head, const Parse& parse) {
  Bytes copy(bytes.begin(), bytes.end());
  for (size_t i = 0; i < std::min(head, copy.size()); ++i) {
    const std::byte original = copy[i];
    const auto value = std::to_integer<int>(original);
    for (const int other : {0x00, 0xff, 0x7f, 0x80, value + 1, value - 1, value ^ 0x20}) {
      copy[i] = static_cast<std::byte>(other);
      parses(copy, parse);
    }
    copy[i] = original;
  }
}

}  // namespace packlight::test

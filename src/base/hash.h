#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace packlight::base {

// XXH3, 64 bit, of the bytes; the checksum in packages and recipes.
uint64_t hash64(std::span<const std::byte> bytes);

// 16 lower-case hexadecimal digits.
std::string hex64(uint64_t value);

}  // namespace packlight::base

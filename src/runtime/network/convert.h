#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "codec/half.h"

namespace packlight::runtime {

// A number of one type as another. Float to integer truncates. What does not fit, NaN and
// infinities become the smallest integer of 64 bits for I64 and of 32 bits for the others, whose
// low bits I16, I8 and U8 take: what numpy does on x86, and here on every processor.
template <class To, class From>
To convert(From x) {
  if constexpr (std::is_same_v<To, bool>) {
    return x != From{0};
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    using Whole = std::conditional_t<sizeof(To) == 8, int64_t, int32_t>;
    constexpr double kBound = sizeof(To) == 8 ? 0x1p63 : 0x1p31;
    const From whole = std::trunc(x);
    const bool fits = whole >= -kBound && whole < kBound;
    return static_cast<To>(fits ? static_cast<Whole>(whole) : std::numeric_limits<Whole>::min());
  } else {
    return static_cast<To>(x);
  }
}

// Elements of the types that C++ has not, or (BOOL) not with any byte.
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};
struct Bool {
  uint8_t byte;
};

template <class T>
auto number_of(T x) {
  if constexpr (std::is_same_v<T, Half>)
    return codec::f16_to_f32(x.bits);
  else if constexpr (std::is_same_v<T, BFloat>)
    return codec::bf16_to_f32(x.bits);
  else if constexpr (std::is_same_v<T, Bool>)
    return static_cast<uint8_t>(x.byte != 0);
  else
    return x;
}

template <class To, class From>
To element_of(From x) {
  if constexpr (std::is_same_v<To, Half>)
    return {codec::f32_to_f16(convert<float>(x))};
  else if constexpr (std::is_same_v<To, BFloat>)
    return {codec::f32_to_bf16(convert<float>(x))};
  else if constexpr (std::is_same_v<To, Bool>)
    return {static_cast<uint8_t>(convert<bool>(x))};
  else
    return convert<To>(x);
}

}  // namespace packlight::runtime

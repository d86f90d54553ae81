#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "runtime/network/operator.h"

// What the quantized operators share: codes are I8 or U8 (I16 for QuantizeLinear and its reverse).
namespace packlight::runtime {

// Any numbers of an input as F32: scales, zero points.
std::vector<float> numbers_as_floats(const RunCall& call, size_t input);

// Errors: InvalidArgument unless the input is I8 or U8.
void check_codes(const OperatorCall& call, size_t input);
// A zero point, where there is one, has the type of the codes that it belongs to.
void check_zero_type(const OperatorCall& call, size_t zero, size_t codes);

// The dimensions by which a parameter broadcasts along `axis` of something of these dimensions: a
// single number and a parameter of its rank as they are, a vector along the axis. Errors:
// InvalidArgument where it does not fit.
std::vector<int64_t> dims_along(const OperatorCall& call, const Tensor& parameter,
                                const std::vector<int64_t>& dims, int64_t axis);

// To the nearest integer, ties to even, within +-2^20, in arithmetic that vectorises anywhere: what
// is added leaves no bits for a fraction.
inline float round_to_even(float x) {
  constexpr float kMost = 0x1p20f, kNoFraction = 0x1.8p23f;
  return (std::clamp(x, -kMost, kMost) + kNoFraction) - kNoFraction;
}

// A number in steps of the scale -> its code, saturated. NaN has none: zero.
template <class Code>
Code encode(float x, float zero) {
  constexpr float kLow = std::numeric_limits<Code>::min(), kHigh = std::numeric_limits<Code>::max();
  const float code = std::clamp(round_to_even(x) + zero, kLow, kHigh);
  return code == code ? static_cast<Code>(static_cast<int32_t>(code)) : Code{0};
}

// fn(Code{}) for the type of codes.
template <class Fn>
void for_code_type(const OperatorCall& call, codec::DType dtype, const Fn& fn) {
  if (dtype == codec::DType::kU8) return fn(uint8_t{});
  if (dtype == codec::DType::kI8) return fn(int8_t{});
  if (dtype == codec::DType::kI16) return fn(int16_t{});
  call.refuse("codes of {} are not supported", codec::info(dtype).name);
}

}  // namespace packlight::runtime

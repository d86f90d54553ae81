#include "codec/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace packlight::codec {
namespace {

// The value of a 16-bit float from its fields, in double, which holds all of them exactly.
double value_of(uint16_t pattern, int mantissa_bits, int bias) {
  const int exponent = (pattern & 0x7fff) >> mantissa_bits;
  const int mantissa = pattern & ((1 << mantissa_bits) - 1);
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                    : std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  return pattern & 0x8000 ? -magnitude : magnitude;
}

struct Format {
  const char* name;
  int mantissa_bits, bias;
  uint16_t infinity;
  float (*decode)(uint16_t);
  uint16_t (*encode)(float);
};

class HalfTest : public testing::TestWithParam<Format> {};

TEST_P(HalfTest, EveryPatternDecodesToItsValueAndBack) {
  const Format& f = GetParam();
  for (int i = 0; i < 65536; ++i) {
    const auto pattern = static_cast<uint16_t>(i);
    const float got = f.decode(pattern);
    const uint16_t magnitude = pattern & 0x7fff;
    if (magnitude > f.infinity) {
      ASSERT_TRUE(std::isnan(got)) << i;
      ASSERT_GT(f.encode(got) & 0x7fff, f.infinity) << i;
      continue;
    }
    if (magnitude == f.infinity) {
      ASSERT_TRUE(std::isinf(got)) << i;
      ASSERT_EQ(std::signbit(got), pattern >> 15 == 1) << i;
    } else {
      ASSERT_EQ(static_cast<double>(got), value_of(pattern, f.mantissa_bits, f.bias)) << i;
      ASSERT_EQ(std::signbit(got), pattern >> 15 == 1) << i;
    }
    ASSERT_EQ(f.encode(got), pattern) << i;
  }
}

// Rounding can only go wrong where it decides: at the middle of two neighbours and one float to
// either side.
TEST_P(HalfTest, EveryMidpointRoundsToEvenAndItsNeighboursToTheNearest) {
  const Format& f = GetParam();
  for (uint16_t low = 0; low + 1 < f.infinity; ++low) {
    const double exact =
        (value_of(low, f.mantissa_bits, f.bias) + value_of(low + 1, f.mantissa_bits, f.bias)) / 2;
    const float middle = static_cast<float>(exact);
    if (static_cast<double>(middle) != exact)
      continue;  // BF16's smallest subnormals are no longer halved by F32
    const uint16_t even = low % 2 == 0 ? low : low + 1;
    for (const uint16_t sign : {uint16_t{0}, uint16_t{0x8000}}) {
      const float s = sign ? -1.0f : 1.0f;
      ASSERT_EQ(f.encode(s * middle), even | sign) << low;
      ASSERT_EQ(f.encode(s * std::nextafter(middle, 0.0f)), low | sign) << low;
      ASSERT_EQ(f.encode(s * std::nextafter(middle, INFINITY)), (low + 1) | sign) << low;
    }
  }
}

TEST_P(HalfTest, LargeValuesOverflowToInfinity) {
  const Format& f = GetParam();
  const uint16_t largest = f.infinity - 1;
  const double step =
      value_of(largest, f.mantissa_bits, f.bias) - value_of(largest - 1, f.mantissa_bits, f.bias);
  const auto limit = static_cast<float>(value_of(largest, f.mantissa_bits, f.bias) + step / 2);
  EXPECT_EQ(f.encode(limit), f.infinity);
  EXPECT_EQ(f.encode(std::nextafter(limit, 0.0f)), largest);
  EXPECT_EQ(f.encode(-limit), f.infinity | 0x8000);
  EXPECT_EQ(f.encode(std::numeric_limits<float>::infinity()), f.infinity);
}

INSTANTIATE_TEST_SUITE_P(Formats, HalfTest,
                         testing::Values(Format{"F16", 10, 15, 0x7c00, f16_to_f32, f32_to_f16},
                                         Format{"BF16", 7, 127, 0x7f80, bf16_to_f32, f32_to_bf16}),
                         [](const auto& info) { return info.param.name; });

TEST(HalfNanTest, EveryKindOfNanStaysNan) {
  for (const uint32_t bits : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    const float nan = std::bit_cast<float>(bits);
    EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(nan)))) << bits;
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(nan)))) << bits;
  }
}

}  // namespace
}  // namespace packlight::codec

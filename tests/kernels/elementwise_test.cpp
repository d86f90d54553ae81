#include <bit>
#include <limits>

#include "kernels/isa_test.h"

namespace packlight::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class ElementwiseTest : public IsaTest {};
PACKLIGHT_EVERY_ISA(ElementwiseTest);

const std::vector<int64_t> kLengths = {1,  2,  3,  4,  5,  7,  8,  9,   15, 16,
                                       17, 31, 32, 33, 63, 64, 65, 100, 576};

// The formula of ActivationsInt8, in float as it is defined.
void expect_quantized(const float* x, int64_t n, float scale, const int8_t* q) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
  ASSERT_EQ(scale, largest / 127);
  for (int64_t i = 0; i < n; ++i) {
    const float want = scale == 0 ? 0 : std::clamp(std::nearbyint(x[i] / scale), -127.f, 127.f);
    ASSERT_EQ(static_cast<int>(q[i]), want) << "index " << i << " x " << x[i] << " scale " << scale;
  }
}

// Blocks with ties, zeros, subnormals (whose scale is coarse) and huge values.
std::vector<float> awkward(int64_t n, std::mt19937& rng) {
  std::vector<float> x = random_floats(n, rng);
  for (int64_t i = 0; i < n; ++i) {
    switch (i / 32 % 6) {
      case 1:
        x[i] = 0;
        break;
      case 2:
        x[i] = i % 32 == 0 ? 127 : static_cast<float>(rng() % 254) / 2 - 63;
        break;  // ties at scale 1
      case 3:
        x[i] = static_cast<float>(static_cast<int>(rng() % 381) - 190) * 0x1p-149f;
        break;
      case 4:
        x[i] *= 0x1p125f;
        break;
      case 5:
        x[i] = -0.f;
        break;
      default:
        break;
    }
  }
  return x;
}

TEST_P(ElementwiseTest, ActivationsAreQuantizedAsDefined) {
  std::mt19937 rng(1);
  for (const int64_t cols : kLengths) {
    const std::vector<float> x = awkward(cols, rng);
    Activations a(2, cols);

    isa().quantize_activations(x.data(), cols, 1, a.view);

    const int64_t padded = a.view.padded_cols, blocks = padded / 32;
    for (int64_t i = 0; i < padded; ++i) ASSERT_EQ(a.q[i], 99) << "token 0 was touched";
    for (int64_t b = 0; b < blocks; ++b) {
      const int8_t* q = a.q.data() + padded + b * 32;
      const int64_t width = std::min<int64_t>(32, cols - b * 32);
      ASSERT_NO_FATAL_FAILURE(expect_quantized(x.data() + b * 32, width, a.scale[blocks + b], q));
      int32_t sum = 0;
      for (int i = 0; i < 32; ++i) sum += q[i];
      ASSERT_EQ(a.sum[blocks + b], sum);
      for (int64_t i = width; i < 32; ++i) ASSERT_EQ(q[i], 0);
    }
  }
}

TEST_P(ElementwiseTest, ActivationsThatAreNotFiniteGiveAScaleOfNan) {
  for (const float bad : {std::nanf(""), -std::nanf(""), kInf, -kInf}) {
    for (const int64_t at : {0, 20, 31, 33}) {
      std::vector<float> x(40, 1);
      x[at] = bad;
      Activations a(1, 40);
      isa().quantize_activations(x.data(), 40, 0, a.view);
      EXPECT_EQ(std::isnan(a.scale[0]), at < 32);
      EXPECT_EQ(std::isnan(a.scale[1]), at >= 32);
    }
  }
}

TEST_P(ElementwiseTest, StoreInt8IsExact) {
  std::mt19937 rng(2);
  for (const int64_t n : kLengths) {
    for (const float size : {1.f, 1e-43f, 1e30f, 0.f}) {
      const std::vector<float> x = random_floats(n, rng, size);
      std::vector<int8_t> q(n + 1, 77);
      const float scale = isa().store_int8(x.data(), n, q.data());
      ASSERT_NO_FATAL_FAILURE(expect_quantized(x.data(), n, scale, q.data()));
      ASSERT_EQ(q[n], 77);
    }
  }
  std::vector<float> bad(33, 1);
  bad[32] = kInf;
  std::vector<int8_t> q(33, 77);
  EXPECT_TRUE(std::isnan(isa().store_int8(bad.data(), 33, q.data())));
  EXPECT_EQ(q[0], 0);
}

TEST_P(ElementwiseTest, StoreF16IsExactForEveryKindOfNumber) {
  std::mt19937 rng(3);
  std::vector<float> x = {
      0,          -0.f,     65504,        65519.996f,       65520, -65520, 0x1p-24f,      0x1p-25f,
      0x1.8p-25f, 0x1p-14f, 1 + 0x1p-11f, 1 + 3 * 0x1p-11f, kInf,  -kInf,  std::nanf(""), 1e-45f};
  for (int i = 0; i < 20001; ++i) x.push_back(std::bit_cast<float>(static_cast<uint32_t>(rng())));
  const auto n = static_cast<int64_t>(x.size());
  std::vector<uint16_t> out(n + 1, 0xabcd);

  isa().store_f16(x.data(), n, out.data());

  for (int64_t i = 0; i < n; ++i) {
    if (std::isnan(x[i]))
      EXPECT_TRUE(std::isnan(codec::f16_to_f32(out[i]))) << i;
    else
      ASSERT_EQ(out[i], codec::f32_to_f16(x[i])) << "index " << i << " x " << x[i];
  }
  EXPECT_EQ(out[n], 0xabcd);
}

// The mean of n squares: n + 1 roundings, halved by the root; then root, quotient, two products: 5
// more at most.
TEST_P(ElementwiseTest, RmsNorm) {
  std::mt19937 rng(4);
  for (const int64_t n : kLengths) {
    const std::vector<float> x = random_floats(n, rng, 3), weight = random_floats(n, rng);
    std::vector<float> out(n + 1, 7);
    isa().rms_norm(x.data(), weight.data(), n, 1e-5f, out.data());
    double sum = 0;
    for (const float v : x) sum += static_cast<double>(v) * v;
    for (int64_t i = 0; i < n; ++i) {
      const double want = x[i] / std::sqrt(sum / n + 1e-5f) * weight[i];
      ASSERT_TRUE(near(out[i], want, ((n + 3) / 2 + 6) * kEps * std::abs(want), i)) << "n " << n;
    }
    ASSERT_EQ(out[n], 7);
  }
  float out[3];
  isa().rms_norm(std::vector<float>{1, std::nanf(""), 2}.data(), std::vector<float>{1, 1, 1}.data(),
                 3, 1e-5f, out);
  for (const float v : out) EXPECT_TRUE(std::isnan(v));
}

TEST_P(ElementwiseTest, AddIsExact) {
  std::mt19937 rng(5);
  for (const int64_t n : kLengths) {
    const std::vector<float> x = random_floats(n, rng);
    std::vector<float> y = random_floats(n + 1, rng);
    const std::vector<float> before = y;
    isa().add(x.data(), n, y.data());
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(y[i], before[i] + x[i]);
    ASSERT_EQ(y[n], before[n]);
  }
}

// exp within 4 ulp (8 eps), then a sum, a quotient and a product. Where exp overflows, the result 0
// is off by less than |gate * up| / FLT_MAX.
TEST_P(ElementwiseTest, SiluMul) {
  std::mt19937 rng(6);
  std::vector<float> gate = {0,      -0.f, 1,   -1,   20,  -20,   87,   -87,    88.8f,
                             -88.8f, 89,   -89, -104, 104, -1e4f, 1e4f, 1e-30f, -1e-40f};
  for (float g = -100; g < 100; g += 0.037f) gate.push_back(g);
  const auto n = static_cast<int64_t>(gate.size());
  const std::vector<float> up = random_floats(n, rng), before = gate;
  isa().silu_mul(gate.data(), up.data(), n);
  for (int64_t i = 0; i < n; ++i) {
    const double g = before[i], want = g / (1 + std::exp(-g)) * up[i];
    const double bound = 11 * kEps * std::abs(want) + std::abs(g * up[i]) * 0x1p-127 + 0x1p-148;
    ASSERT_TRUE(near(gate[i], want, bound, i)) << "gate " << g << " up " << up[i];
  }
}

TEST_P(ElementwiseTest, SiluMulOfNanAndInfinity) {
  std::vector<float> gate = {std::nanf(""), kInf, 1, 1, -kInf};
  const std::vector<float> up = {1, 1, std::nanf(""), kInf, 1};
  isa().silu_mul(gate.data(), up.data(), 5);
  EXPECT_TRUE(std::isnan(gate[0]));
  EXPECT_EQ(gate[1], kInf);
  EXPECT_TRUE(std::isnan(gate[2]));
  EXPECT_EQ(gate[3], kInf);
  EXPECT_TRUE(std::isnan(gate[4]));  // -infinity times 0
}

// Two products and a sum: 3 eps of the magnitudes.
TEST_P(ElementwiseTest, Rotary) {
  std::mt19937 rng(7);
  for (const int64_t dim : {2, 4, 6, 10, 16, 30, 34, 64, 80, 128}) {
    std::vector<float> head = random_floats(dim + 1, rng);
    const std::vector<float> before = head;
    std::vector<float> cosine, sine;
    for (int64_t i = 0; i < dim / 2; ++i) {
      cosine.push_back(std::cos(static_cast<float>(i)));
      sine.push_back(std::sin(static_cast<float>(i)));
    }
    isa().rotary(head.data(), cosine.data(), sine.data(), dim);
    for (int64_t i = 0; i < dim / 2; ++i) {
      const double a = before[i], b = before[i + dim / 2], c = cosine[i], s = sine[i];
      ASSERT_TRUE(near(head[i], a * c - b * s, 3 * kEps * (std::abs(a * c) + std::abs(b * s)), i))
          << dim;
      ASSERT_TRUE(
          near(head[i + dim / 2], b * c + a * s, 3 * kEps * (std::abs(b * c) + std::abs(a * s)), i))
          << dim;
    }
    ASSERT_EQ(head[dim], before[dim]);
  }
}

}  // namespace
}  // namespace packlight::kernels

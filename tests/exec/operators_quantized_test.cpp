#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "exec/run_operator.h"
#include "exec/tensor_compare.h"
#include "graph/error_of.h"

namespace packlight::exec {
namespace {

using test::Attributes;
using test::close;
using test::contains;
using test::error_of;
using test::run;
using test::run_all;
using test::tensor;

at::Tensor codes(std::vector<float> values, at::IntArrayRef shape,
                 at::ScalarType type = at::kByte) {
  return tensor(std::move(values), shape).to(type);
}

TEST(OperatorsQuantizedTest, RoundsHalfToEvenAndSaturates) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor x = tensor({0.5, 1.5, 2.5, -0.5, 1000, -1000, nan}, {7});
  const at::Tensor got = run("QuantizeLinear", {x, tensor({1}, {}), codes({3}, {}, at::kChar)});
  EXPECT_EQ(got.scalar_type(), at::kChar);
  EXPECT_TRUE(close(got, tensor({3, 5, 5, 3, 127, -128, 0}, {7}), 0));
}

TEST(OperatorsQuantizedTest, BlocksMayEndShort) {
  const at::Tensor x = tensor({1, 2, 3, 4, 5}, {1, 5}), scale = tensor({1, 2, 4}, {1, 3});
  const Attributes attributes{{"block_size", int64_t{2}}, {"axis", int64_t{-1}}};
  const at::Tensor got = run("QuantizeLinear", {x, scale}, attributes);
  EXPECT_EQ(got.scalar_type(), at::kByte);
  EXPECT_TRUE(close(got, tensor({1, 2, 2, 2, 1}, {1, 5}), 0));
  EXPECT_TRUE(
      close(run("DequantizeLinear", {got, scale}, attributes), tensor({1, 2, 4, 4, 4}, {1, 5}), 0));
}

// x / scale: -3, 0.5, 1.75, 8; codes 0 to 3 around zero point 1.
const std::vector<float> kX{-6, 1, 3.5, 16};

TEST(OperatorsQuantizedTest, FakeQuantizeHasStraightThroughGradients) {
  const at::Tensor x = tensor(kX, {4}).set_requires_grad(true);
  const at::Tensor scale = tensor({2}, {1}).set_requires_grad(true);
  const at::Tensor y = fake_quantize(x, scale, tensor({1}, {1}), 0, 3);
  EXPECT_TRUE(close(y, tensor({-2, 0, 4, 4}, {4}), 0));
  (y * tensor({1, 2, 3, 4}, {4})).sum().backward();
  EXPECT_TRUE(close(x.grad(), tensor({0, 2, 3, 0}, {4}), 0));
  // Code less zero point: -1 outside; 0 - 0.5 and 2 - 1.75 inside; 2 outside.
  EXPECT_TRUE(close(scale.grad(), tensor({-1 + 2 * -0.5f + 3 * 0.25f + 4 * 2}, {1}), 0));
  EXPECT_TRUE(contains(error_of([&] { fake_quantize(x, scale, scale, 3, 3); }), "no range"));
}

TEST(OperatorsQuantizedTest, QuantizeThenDequantizeIsFakeQuantize) {
  const auto gradients = [](bool fused) {
    const at::Tensor x = tensor({-9, -3.5, 0.75, 200, 600}, {5}).set_requires_grad(true);
    const at::Tensor scale = tensor({2}, {}).set_requires_grad(true);
    const at::Tensor zero = codes({3}, {});
    const at::Tensor y =
        fused ? fake_quantize(x, scale, zero, 0, 255)
              : run("DequantizeLinear", {run("QuantizeLinear", {x, scale, zero}), scale, zero});
    (y * tensor({1, 2, 3, 4, 5}, {5})).sum().backward();
    return std::vector<at::Tensor>{y, x.grad(), scale.grad()};
  };
  const auto got = gradients(false), want = gradients(true);
  EXPECT_TRUE(close(got[1], tensor({0, 2, 3, 4, 0}, {5}), 0));
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(close(got[i], want[i], 0)) << i;
}

TEST(OperatorsQuantizedTest, DynamicRangeOfZeros) {
  const auto out = run_all("DynamicQuantizeLinear", {at::zeros({3})}, {}, 3);
  EXPECT_TRUE(close(out[0], at::zeros({3}), 0));
  EXPECT_EQ(out[1].item<float>(), 1.f / 255);
  EXPECT_EQ(out[2].item<int>(), 0);
}

// 300 terms of 255 * 255 - 1 leave what F32 can hold exactly.
TEST(OperatorsQuantizedTest, LongIntegerSumsAreExact) {
  at::Tensor a = at::full({1, 301}, 255, at::kByte), b = at::full({301, 1}, 255, at::kByte);
  a[0][300] = 1;
  b[300][0] = 1;
  const at::Tensor got = run("MatMulInteger", {a, b});
  EXPECT_EQ(got.scalar_type(), at::kInt);
  EXPECT_EQ(got.item<int>(), 300 * 255 * 255 + 1);
}

TEST(OperatorsQuantizedTest, ZeroPointsOfRowsAndColumns) {
  const at::Tensor got =
      run("MatMulInteger", {codes({1, 2, 3, 4}, {2, 2}), codes({5, 6, 7, 8}, {2, 2}),
                            codes({1, 3}, {2}), codes({5, 6}, {2})});
  // [[0, 1], [0, 1]] x [[0, 0], [2, 2]].
  EXPECT_TRUE(close(got, tensor({2, 2, 2, 2}, {2, 2}), 0));
}

TEST(OperatorsQuantizedTest, ConvolutionPadsWithTheZeroPoint) {
  const at::Tensor x = codes({4, 5, 6}, {1, 1, 3}), w = codes({1, 1}, {1, 1, 2}, at::kChar);
  const auto conv = [&](const char* pad) {
    return run("ConvInteger", {x, w, codes({3}, {})}, {{"auto_pad", pad}});
  };
  EXPECT_TRUE(close(conv("VALID"), tensor({3, 5}, {1, 1, 2}), 0));
  EXPECT_TRUE(close(conv("SAME_UPPER"), tensor({3, 5, 3}, {1, 1, 3}), 0));
  EXPECT_TRUE(close(conv("SAME_LOWER"), tensor({1, 3, 5}, {1, 1, 3}), 0));
}

TEST(OperatorsQuantizedTest, QLinearConvWithBiasAndScalesByMap) {
  const at::Tensor got =
      run("QLinearConv", {codes({1, 2, 3}, {1, 1, 3}), tensor({0.5}, {}), codes({1}, {}),
                          codes({2, 4}, {2, 1, 1}), tensor({1, 0.25}, {2}), codes({0, 1}, {2}),
                          tensor({1}, {}), codes({10}, {}), codes({1, -8}, {2}, at::kInt)});
  // Map 0: (2 {0, 1, 2} + 1) / 2 = .5, 1.5, 2.5. Map 1: (3 {0, 1, 2} - 8) / 8 = -1, -5/8, -1/4.
  EXPECT_TRUE(close(got, tensor({10, 12, 12, 9, 9, 10}, {1, 2, 3}), 0));
}

// What ONNX Runtime gives for the same inputs.
class MatMulNBitsTest : public ::testing::Test {
 protected:
  at::Tensor multiply(int64_t bits, const at::Tensor& zeros, const at::Tensor& bias,
                      const at::Tensor& order = {}) {
    const int64_t bytes = 16 * bits / 8;
    const at::Tensor a =
        (((at::arange(40, at::kLong) * 7).remainder(11) - 5).to(at::kFloat) / 4).reshape({2, 20});
    const at::Tensor b =
        (at::arange(6 * bytes, at::kLong) * 37).remainder(256).to(at::kByte).reshape({3, 2, bytes});
    return run_all(
        "MatMulNBits", {a, b, tensor({.5, .25, 1, 2, .125, .5}, {6}), zeros, order, bias},
        {{"K", int64_t{20}}, {"N", int64_t{3}}, {"bits", bits}, {"block_size", int64_t{16}}}, 1,
        "com.microsoft")[0];
  }
};

// All numbers are multiples of 2^-7 below 2^11: exact.
TEST_F(MatMulNBitsTest, FourBits) {
  EXPECT_TRUE(
      close(multiply(4, {}, {}), tensor({1.25, 28.75, 1.75, -9.8125, -14.25, 1.9375}, {2, 3}), 0));
  EXPECT_TRUE(close(multiply(4, codes({0x97, 0x1f, 0x80}, {3}), tensor({1, -2, 3}, {3})),
                    tensor({2.5625, 14.5, 5, -9.625, 13.5, 4.1875}, {2, 3}), 0));
  EXPECT_TRUE(close(multiply(4, tensor({7.5, 8, 0, 15, 3.25, 1}, {6}), {}),
                    tensor({1.3125, 41.25, -0.7265625, -10, -44.75, 7.6171875}, {2, 3}), 0));
}

TEST_F(MatMulNBitsTest, EightBits) {
  EXPECT_TRUE(close(multiply(8, {}, {}),
                    tensor({-5.125, -331.25, -55.90625, -28.4375, 162.25, 66.46875}, {2, 3}), 0));
  EXPECT_TRUE(close(multiply(8, codes({3, 200, 128, 0, 255, 7}, {6}), {}),
                    tensor({24, -523.25, -105.25, -106.8125, 610.25, 184.25}, {2, 3}), 0));
}

TEST_F(MatMulNBitsTest, BadInputIsRefused) {
  EXPECT_TRUE(contains(error_of([&] { multiply(2, {}, {}); }), "Unsupported: bits 2"));
  EXPECT_TRUE(contains(error_of([&] { multiply(4, {}, {}, at::zeros({20}, at::kInt)); }), "g_idx"));
  EXPECT_TRUE(contains(error_of([&] {
                         multiply(4, codes({1, 2}, {2}), {});
                       }),
                       "zero_points has 2 elements, not 3"));
}

TEST(OperatorsQuantizedTest, BadInputIsRefused) {
  const at::Tensor x = at::zeros({2, 3});
  EXPECT_TRUE(contains(error_of([&] {
                         run("QuantizeLinear", {x, at::ones({2})});
                       }),
                       "2 should be 3"));
  EXPECT_TRUE(contains(error_of([&] {
                         run("QuantizeLinear", {x, at::ones({2, 2})}, {{"block_size", int64_t{3}}});
                       }),
                       "2x2 should be 2x1"));
  EXPECT_TRUE(contains(error_of([&] {
                         run("QuantizeLinear", {x, at::ones({})}, {{"output_dtype", int64_t{1}}});
                       }),
                       "Unsupported"));
  EXPECT_TRUE(contains(error_of([&] {
                         run("ConvInteger", {codes({1, 2}, {1, 1, 2}), codes({1}, {1, 1, 1})},
                             {{"strides", std::vector<int64_t>{0}}});
                       }),
                       "strides holds 0"));
}

}  // namespace
}  // namespace packlight::exec

#include "exec/operators.h"

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
using test::integers;
using test::run;
using test::run_all;
using test::tensor;

TEST(OperatorsTest, Elementwise) {
  const at::Tensor a = tensor({1, -2, 3, 4}, {2, 2}), b = tensor({2, 4}, {2});
  EXPECT_TRUE(close(run("Add", {a, b}), tensor({3, 2, 5, 8}, {2, 2}), 0));
  EXPECT_TRUE(close(run("Sub", {a, b}), tensor({-1, -6, 1, 0}, {2, 2}), 0));
  EXPECT_TRUE(close(run("Mul", {a, b}), tensor({2, -8, 6, 16}, {2, 2}), 0));
  EXPECT_TRUE(close(run("Div", {a, b}), tensor({0.5, -0.5, 1.5, 1}, {2, 2}), 0));
  EXPECT_TRUE(close(run("Div", {integers({-7}, {1}), integers({2}, {1})}), tensor({-3}, {1}), 0));
  EXPECT_TRUE(close(run("Identity", {a}), a, 0));
  // One rounding of a value below one, and a few in the function.
  EXPECT_TRUE(close(run("Sigmoid", {tensor({0, std::log(3.f)}, {2})}), tensor({0.5, 0.75}, {2}),
                    4 * 0x1p-24));
  EXPECT_TRUE(
      close(run("Cos", {tensor({0, 3.14159265f}, {2})}), tensor({1, -1}, {2}), 4 * 0x1p-24));
  EXPECT_TRUE(close(run("Sin", {tensor({0, 1.57079633f}, {2})}), tensor({0, 1}, {2}), 4 * 0x1p-24));
  const float log2 = std::log(2.f);
  EXPECT_TRUE(close(run("Softmax", {tensor({0, log2, 0, 0, 0, log2}, {2, 3})}),
                    tensor({.25, .5, .25, .25, .25, .5}, {2, 3}), 4 * 0x1p-24));
  EXPECT_TRUE(close(run("Softmax", {tensor({0, log2, 0, 0}, {2, 2})}, {{"axis", int64_t{0}}}),
                    tensor({.5, 2 / 3.f, .5, 1 / 3.f}, {2, 2}), 4 * 0x1p-24));
  const at::Tensor cast = run("Cast", {integers({3}, {1})}, {{"to", int64_t{1}}});
  EXPECT_EQ(cast.scalar_type(), at::kFloat);
  EXPECT_EQ(cast.item<float>(), 3);
}

TEST(OperatorsTest, Products) {
  const at::Tensor a = tensor({1, 2, 3, 4}, {2, 2}), b = tensor({1, 0, 2, 1}, {2, 2}),
                   c = tensor({10, 20}, {2});
  EXPECT_TRUE(close(run("MatMul", {a, b}), tensor({5, 2, 11, 4}, {2, 2}), 0));
  EXPECT_TRUE(close(run("MatMul", {a.unsqueeze(0), b}), tensor({5, 2, 11, 4}, {1, 2, 2}), 0));
  EXPECT_TRUE(close(run("Gemm", {a, b, c}), tensor({15, 22, 21, 24}, {2, 2}), 0));
  EXPECT_TRUE(
      close(run("Gemm", {a, b}, {{"transA", int64_t{1}}, {"transB", int64_t{1}}, {"alpha", 0.5}}),
            tensor({.5, 2.5, 1, 4}, {2, 2}), 0));
  EXPECT_TRUE(close(run("Gemm", {a, b, c}, {{"beta", 2.0}}), tensor({25, 42, 31, 44}, {2, 2}), 0));
}

TEST(OperatorsTest, Movement) {
  const at::Tensor a = tensor({0, 1, 2, 3, 4, 5}, {2, 3});
  EXPECT_TRUE(close(run("Transpose", {a}), tensor({0, 3, 1, 4, 2, 5}, {3, 2}), 0));
  EXPECT_TRUE(close(run("Gather", {a, integers({1, -2}, {2, 1})}),
                    tensor({3, 4, 5, 0, 1, 2}, {2, 1, 3}), 0));
  EXPECT_TRUE(close(run("Gather", {a, integers({2, 0}, {2})}, {{"axis", int64_t{1}}}),
                    tensor({2, 0, 5, 3}, {2, 2}), 0));
  EXPECT_TRUE(contains(error_of([&] {
                         run("Gather", {a, integers({2}, {1})});
                       }),
                       "index 2 is outside [-2, 2)"));
  EXPECT_EQ(run("Unsqueeze", {a, integers({-1, 0}, {2})}).sizes(), at::IntArrayRef({1, 2, 3, 1}));
  EXPECT_EQ(run("Squeeze", {a.view({1, 2, 3, 1}), integers({-1, 0}, {2})}).sizes(),
            at::IntArrayRef({2, 3}));
  EXPECT_EQ(run("Squeeze", {a.view({1, 2, 3, 1})}).sizes(), at::IntArrayRef({2, 3}));
  EXPECT_TRUE(contains(error_of([&] {
                         run("Squeeze", {a, integers({0}, {1})});
                       }),
                       "size 2, not 1"));
  EXPECT_EQ(run("Reshape", {a, integers({0, 1, -1}, {3})}).sizes(), at::IntArrayRef({2, 1, 3}));
  EXPECT_TRUE(close(run("Concat", {a, a.slice(1, 0, 1)}, {{"axis", int64_t{1}}}),
                    tensor({0, 1, 2, 0, 3, 4, 5, 3}, {2, 4}), 0));
}

TEST(OperatorsTest, SliceTakesStepsBothWays) {
  const at::Tensor a = at::arange(10, at::kFloat);
  const auto slice = [&](int64_t start, int64_t end, int64_t step) {
    return run("Slice", {a, integers({start}, {1}), integers({end}, {1}), integers({0}, {1}),
                         integers({step}, {1})});
  };
  EXPECT_TRUE(close(slice(1, 8, 3), tensor({1, 4, 7}, {3}), 0));
  EXPECT_TRUE(close(slice(8, 2, -2), tensor({8, 6, 4}, {3}), 0));
  EXPECT_TRUE(close(slice(-1, std::numeric_limits<int64_t>::min(), -4), tensor({9, 5, 1}, {3}), 0));
  EXPECT_EQ(slice(5, 5, 1).numel(), 0);
}

TEST(OperatorsTest, SplitGivesRestToTheLast) {
  const auto parts = run_all("Split", {at::arange(7, at::kFloat)}, {}, 3);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_TRUE(close(parts[2], tensor({6}, {1}), 0));
  const auto sized = run_all("Split", {at::arange(7, at::kFloat), integers({5, 2}, {2})}, {}, 2);
  EXPECT_TRUE(close(sized[1], tensor({5, 6}, {2}), 0));
}

TEST(OperatorsTest, RmsNormalizationWithAndWithoutAutograd) {
  const at::Tensor x = tensor({3, 4, 0, 0, 1, 1, 1, 1}, {2, 4}), w = tensor({1, 2, 3, 4}, {4});
  // Mean squares 6.25 and 1.
  const at::Tensor want = tensor({1.2f, 3.2f, 0, 0, 1, 2, 3, 4}, {2, 4});
  EXPECT_TRUE(close(run("RMSNormalization", {x, w}, {{"epsilon", 0.0}}), want, 4 * 0x1p-22));
  const c10::AutoGradMode no_gradients(false);
  EXPECT_TRUE(close(run("RMSNormalization", {x, w}, {{"epsilon", 0.0}}), want, 4 * 0x1p-22));
}

TEST(OperatorsTest, RotaryTurnsPairsAcrossHalves) {
  // Two heads of four: pairs (0, 2) and (1, 3), turned by 90 and 0 degrees.
  const at::Tensor x = tensor({1, 2, 3, 4, 5, 6, 7, 8}, {1, 1, 8});
  const at::Tensor cosine = tensor({0, 1}, {1, 1, 2}), sine = tensor({1, 0}, {1, 1, 2});
  const Attributes heads{{"num_heads", int64_t{2}}};
  EXPECT_TRUE(close(run("RotaryEmbedding", {x, cosine, sine}, heads),
                    tensor({-3, 2, 1, 4, -7, 6, 5, 8}, {1, 1, 8}), 0));
  Attributes interleaved = heads;
  interleaved["interleaved"] = int64_t{1};  // pairs (0, 1) and (2, 3)
  EXPECT_TRUE(close(run("RotaryEmbedding", {x, cosine, sine}, interleaved),
                    tensor({-2, 1, 3, 4, -6, 5, 7, 8}, {1, 1, 8}), 0));
  // The same by position, on [batch, heads, sequence, size].
  const at::Tensor by_head = x.view({1, 1, 2, 4}).transpose(1, 2);
  const at::Tensor cache_cos = at::stack({tensor({1, 1}, {2}), tensor({0, 1}, {2})});
  const at::Tensor cache_sin = at::stack({tensor({0, 0}, {2}), tensor({1, 0}, {2})});
  EXPECT_TRUE(close(run("RotaryEmbedding", {by_head, cache_cos, cache_sin, integers({1}, {1, 1})}),
                    tensor({-3, 2, 1, 4, -7, 6, 5, 8}, {1, 2, 1, 4}), 0));
}

TEST(OperatorsTest, RotaryLeavesTheRestOfAHead) {
  const at::Tensor x = tensor({1, 2, 3, 4}, {1, 1, 4});
  EXPECT_TRUE(close(run("RotaryEmbedding", {x, tensor({0}, {1, 1, 1}), tensor({1}, {1, 1, 1})},
                        {{"num_heads", int64_t{1}}}),
                    tensor({-2, 1, 3, 4}, {1, 1, 4}), 0));
}

TEST(OperatorsTest, EveryOperatorWithAShapeRuleRuns) {
  for (const char* op : {"Gather",    "RMSNormalization",
                         "MatMul",    "Gemm",
                         "Transpose", "Add",
                         "Mul",       "Sub",
                         "Div",       "Sigmoid",
                         "Softmax",   "Cast",
                         "Unsqueeze", "Squeeze",
                         "Reshape",   "Cos",
                         "Sin",       "RotaryEmbedding",
                         "Attention", "Identity",
                         "Concat",    "Slice",
                         "Split"}) {
    EXPECT_NE(find_operator(op, ""), nullptr) << op;
  }
  EXPECT_EQ(find_operator("Frobnicate", ""), nullptr);
  EXPECT_EQ(find_operator("Add", "com.example"), nullptr);
}

TEST(QuantizeDequantizeTest, RoundsBlocksOf32HalfToEven) {
  at::Tensor x = at::zeros({1, 40});
  x[0][0] = 127;     // scale 1
  x[0][1] = 2.5;     // tie: to 2
  x[0][2] = -3.5;    // tie: to -4
  x[0][33] = 0.5;    // ragged block: scale 0.5 / 127
  x[0][34] = 0.001;  // 0.254 of a step
  at::Tensor want = at::zeros({1, 40});
  want[0][0] = 127;
  want[0][1] = 2;
  want[0][2] = -4;
  want[0][33] = 127 * (0.5f / 127);
  EXPECT_TRUE(close(quantize_dequantize_int8(x), want, 0));
}

TEST(QuantizeDequantizeTest, EveryRowHasItsOwnScales) {
  at::Tensor x = at::zeros({2, 40}), want = at::zeros({2, 40});
  x[0][0] = want[0][0] = 127;
  x[0][1] = 0.25;                // a quarter of a step
  x[1][0] = want[1][0] = -63.5;  // steps of a half
  x[1][1] = want[1][1] = 0.5;
  x[1][39] = want[1][39] = -254;  // steps of 2
  x[1][38] = 0.75;
  EXPECT_TRUE(close(quantize_dequantize_int8(x), want, 0));
}

TEST(QuantizeDequantizeTest, ZeroStaysZeroAndNanShows) {
  EXPECT_TRUE(close(quantize_dequantize_int8(at::zeros({2, 3})), at::zeros({2, 3}), 0));
  at::Tensor x = at::ones({1, 64});
  x[0][3] = std::numeric_limits<float>::infinity();
  const at::Tensor got = quantize_dequantize_int8(x);
  EXPECT_TRUE(got.slice(1, 0, 32).isnan().all().item<bool>());
  EXPECT_TRUE(close(got.slice(1, 32, 64), at::ones({1, 32}), 0x1p-23));
}

TEST(QuantizeDequantizeTest, GradientPassesThrough) {
  at::Tensor x = test::noise({2, 40}, 1).requires_grad_(true);
  quantize_dequantize_int8(x).sum().backward();
  EXPECT_TRUE(close(x.grad(), at::ones({2, 40}), 0));
}

}  // namespace
}  // namespace packlight::exec

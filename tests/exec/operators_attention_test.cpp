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
using test::noise;
using test::run_all;
using test::tensor;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Four numbers below one a score, five keys a softmax: a dozen roundings each.
constexpr double kBound = 64 * 0x1p-24;

std::vector<at::Tensor> heads(int64_t queries, int64_t keys) {
  return {noise({2, 4, queries, 4}, 1), noise({2, 2, keys, 4}, 2), noise({2, 2, keys, 4}, 3)};
}
at::Tensor bools(std::vector<float> values, at::IntArrayRef shape) {
  return tensor(std::move(values), shape).to(at::kBool);
}

TEST(OperatorsAttentionTest, CausalMaskEqualsTheCausalAttribute) {
  auto in = heads(5, 5);
  const at::Tensor want = run_all("Attention", in, {{"is_causal", int64_t{1}}})[0];
  in.push_back(at::tril(at::ones({5, 5})).to(at::kBool));
  EXPECT_TRUE(close(run_all("Attention", in)[0], want, kBound));
}

TEST(OperatorsAttentionTest, PastKeysEqualTheEndOfTheWhole) {
  const auto whole = heads(5, 5);
  const Attributes causal{{"is_causal", int64_t{1}}, {"local_window_size", int64_t{3}}};
  const at::Tensor want = run_all("Attention", whole, causal)[0].narrow(2, 3, 2);
  const auto part = [](const at::Tensor& x, int64_t from, int64_t count) {
    return x.narrow(2, from, count);
  };
  const auto out = run_all("Attention",
                           {part(whole[0], 3, 2),
                            part(whole[1], 3, 2),
                            part(whole[2], 3, 2),
                            {},
                            part(whole[1], 0, 3),
                            part(whole[2], 0, 3)},
                           causal, 3);
  EXPECT_TRUE(close(out[0], want, kBound));
  EXPECT_TRUE(close(out[1], whole[1], 0));
  EXPECT_TRUE(close(out[2], whole[2], 0));
}

TEST(OperatorsAttentionTest, ChunksChangeNothing) {
  auto in = heads(5, 4);
  in.push_back(noise({2, 1, 5, 4}, 4));
  ExecOptions small;
  small.attention_query_chunk = 2;
  const Attributes attributes{{"softcap", 0.5}, {"qk_matmul_output_mode", int64_t{2}}};
  const auto want = run_all("Attention", in, attributes, 4),
             got = run_all("Attention", in, attributes, 4, "", small);
  EXPECT_TRUE(close(got[0], want[0], kBound));
  EXPECT_TRUE(close(got[3], want[3], kBound));
}

TEST(OperatorsAttentionTest, BlindQueriesGiveZerosAndZeroGradients) {
  auto in = heads(2, 3);
  for (at::Tensor& x : in) x.set_requires_grad(true);
  in.push_back(bools({0, 0, 0, 1, 0, 1}, {2, 3}));
  const auto out = run_all("Attention", in, {{"qk_matmul_output_mode", int64_t{3}}}, 4);
  EXPECT_EQ(out[0].narrow(2, 0, 1).abs().max().item<float>(), 0);
  EXPECT_EQ(out[3].narrow(2, 0, 1).abs().max().item<float>(), 0);
  EXPECT_GT(out[0].narrow(2, 1, 1).abs().max().item<float>(), 0);
  out[0].sum().backward();
  EXPECT_EQ(in[0].grad().narrow(2, 0, 1).abs().max().item<float>(), 0);
  EXPECT_TRUE(at::isfinite(in[0].grad()).all().item<bool>());
  EXPECT_EQ(in[2].grad().narrow(2, 1, 1).abs().max().item<float>(), 0);  // nobody sees key 1
}

TEST(OperatorsAttentionTest, ShorterMaskHidesTheKeysBeyond) {
  auto in = heads(2, 4), less = heads(2, 4);
  in.push_back(at::zeros({2, 3}));
  for (int i = 1; i < 3; ++i) less[i] = less[i].narrow(2, 0, 3);
  EXPECT_TRUE(close(run_all("Attention", in)[0], run_all("Attention", less)[0], kBound));
  in[3] = tensor({0, 0, 0, -kInfinity}, {4});
  EXPECT_TRUE(close(run_all("Attention", in)[0], run_all("Attention", less)[0], kBound));
}

TEST(OperatorsAttentionTest, MaskedGradientIsThatOfPlainAttention) {
  const auto gradient = [](bool mask) {
    auto in = heads(4, 4);
    in[0].set_requires_grad(true);
    if (mask) in.push_back(at::zeros({1}));
    (run_all("Attention", in)[0] * noise({2, 4, 4, 4}, 5)).sum().backward();
    return in[0].grad();
  };
  EXPECT_TRUE(close(gradient(true), gradient(false), 4 * kBound));
}

TEST(OperatorsAttentionTest, BadInputIsRefused) {
  const auto error = [](std::vector<at::Tensor> in, Attributes attributes = {},
                        size_t outputs = 1) {
    return error_of([&] { run_all("Attention", in, attributes, outputs); });
  };
  auto in = heads(2, 3);
  in.push_back(at::zeros({2, 4}));
  EXPECT_TRUE(contains(error(in), "mask 2x4 does not broadcast to 2x4x2x3"));
  in[3] = at::Tensor();
  EXPECT_TRUE(contains(error(in, {{"qk_matmul_output_mode", int64_t{4}}}, 4), "outside 0 to 3"));
  in.push_back(noise({2, 2, 1, 4}, 6));
  EXPECT_TRUE(contains(error(in), "together"));
  EXPECT_TRUE(contains(error({noise({1, 2, 6}, 1), noise({1, 2, 6}, 1), noise({1, 2, 6}, 1)}),
                       "0 heads do not divide 1x2x6"));
}

}  // namespace
}  // namespace packlight::exec

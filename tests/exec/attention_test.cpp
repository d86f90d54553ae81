#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "exec/operators.h"
#include "exec/tensor_compare.h"
#include "graph/error_of.h"

namespace packlight::exec {
namespace {

using test::close;
using test::contains;
using test::error_of;
using test::noise;

// The formula, one number at a time in double.
at::Tensor reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionSpec& spec) {
  const at::Tensor qd = q.to(at::kDouble).contiguous(), kd = k.to(at::kDouble).contiguous();
  const at::Tensor vd = v.to(at::kDouble).contiguous();
  const auto qa = qd.accessor<double, 4>(), ka = kd.accessor<double, 4>(),
             va = vd.accessor<double, 4>();
  at::Tensor out = at::zeros({q.size(0), q.size(1), q.size(2), v.size(3)}, at::kDouble);
  auto oa = out.accessor<double, 4>();
  const int64_t group = q.size(1) / k.size(1);
  for (int64_t b = 0; b < q.size(0); ++b) {
    for (int64_t h = 0; h < q.size(1); ++h) {
      for (int64_t i = 0; i < q.size(2); ++i) {
        double total = 0;
        for (int64_t j = 0; j < k.size(2); ++j) {
          if (spec.causal && j > i) continue;
          if (spec.window > 0 && j <= i - spec.window) continue;
          double score = 0;
          for (int64_t d = 0; d < q.size(3); ++d) score += qa[b][h][i][d] * ka[b][h / group][j][d];
          const double weight = std::exp(score * spec.scale);
          total += weight;
          for (int64_t d = 0; d < v.size(3); ++d) oa[b][h][i][d] += weight * va[b][h / group][j][d];
        }
        for (int64_t d = 0; d < v.size(3); ++d) oa[b][h][i][d] /= total;
      }
    }
  }
  return out;
}

// Scores are below size * scale * 9 here; each rounding of one moves a weight by that times 2^-24,
// the weights sum to one and values are below 3.
constexpr double kBound = 3 * 40 * 9 * 0x1p-24;

struct Case {
  const char* name;
  int64_t heads, kv_heads, n, window;
  bool causal;
  int64_t chunk;
};
class AttentionTest : public ::testing::TestWithParam<Case> {};

TEST_P(AttentionTest, EqualsTheFormula) {
  const Case& c = GetParam();
  // Views like the operator's: heads lie inside a row.
  const at::Tensor q = (3 * noise({2, c.n, c.heads, 8}, 1)).transpose(1, 2);
  const at::Tensor k = (3 * noise({2, c.n, c.kv_heads, 8}, 2)).transpose(1, 2);
  const at::Tensor v = (3 * noise({2, c.n, c.kv_heads, 5}, 3)).transpose(1, 2);
  const AttentionSpec spec{c.causal, c.window, 0.35, c.chunk};
  EXPECT_TRUE(close(attention(q, k, v, spec), reference(q, k, v, spec), kBound));
}

TEST_P(AttentionTest, GradientsEqualFiniteDifferences) {
  Case c = GetParam();
  c.n = std::min<int64_t>(c.n, 7);
  const AttentionSpec spec{c.causal, c.window, 0.35, std::min<int64_t>(c.chunk, 3)};
  std::vector<at::Tensor> inputs = {noise({1, c.heads, c.n, 3}, 1),
                                    noise({1, c.kv_heads, c.n, 3}, 2),
                                    noise({1, c.kv_heads, c.n, 2}, 3)};
  const at::Tensor weights = noise({1, c.heads, c.n, 2}, 4);
  for (at::Tensor& input : inputs) input = input.to(at::kDouble).requires_grad_(true);
  (attention(inputs[0], inputs[1], inputs[2], spec) * weights).sum().backward();
  const double step = 1e-5;
  for (size_t which = 0; which < inputs.size(); ++which) {
    const at::Tensor base = inputs[which].detach();
    for (int64_t i = 0; i < base.numel(); ++i) {
      const auto loss = [&](double delta) {
        std::vector<at::Tensor> moved = {inputs[0].detach(), inputs[1].detach(),
                                         inputs[2].detach()};
        moved[which] = base.clone();
        moved[which].view({-1})[i] += delta;
        return (attention(moved[0], moved[1], moved[2], spec) * weights).sum().item<double>();
      };
      const double want = (loss(step) - loss(-step)) / (2 * step);
      // Third derivative of sums of a few terms below one, times step^2, and rounding over step.
      ASSERT_NEAR(inputs[which].grad().reshape({-1})[i].item<double>(), want, 1e-8)
          << "input " << which << " element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, AttentionTest,
                         ::testing::Values(Case{"causal", 4, 4, 21, 0, true, 128},
                                           Case{"full", 4, 4, 21, 0, false, 5},
                                           Case{"grouped", 6, 2, 21, 0, true, 8},
                                           Case{"one_row_chunks", 6, 2, 9, 0, true, 1},
                                           Case{"window", 4, 2, 33, 7, true, 8},
                                           Case{"window_of_one", 2, 1, 9, 1, true, 4},
                                           Case{"window_wider_than_all", 2, 1, 9, 100, true, 4},
                                           Case{"one_token", 4, 2, 1, 0, true, 128}),
                         [](const auto& info) { return info.param.name; });

TEST(AttentionTest, CrossAttentionHasItsOwnLength) {
  const at::Tensor q = noise({1, 2, 5, 4}, 1), k = noise({1, 2, 9, 4}, 2),
                   v = noise({1, 2, 9, 4}, 3);
  const AttentionSpec spec{false, 0, 0.5, 2};
  EXPECT_TRUE(close(attention(q, k, v, spec), reference(q, k, v, spec), kBound));
  const AttentionSpec causal{true, 0, 0.5, 2};
  EXPECT_TRUE(contains(error_of([&] { attention(q, k, v, causal); }), "5 queries over 9 keys"));
}

TEST(AttentionTest, MismatchedHeadsAreRefused) {
  const at::Tensor q = noise({1, 3, 5, 4}, 1), k = noise({1, 2, 5, 4}, 2);
  EXPECT_TRUE(contains(error_of([&] { attention(q, k, k, {}); }), "1x3x5x4"));
}

}  // namespace
}  // namespace packlight::exec

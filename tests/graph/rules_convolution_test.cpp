#include <gtest/gtest.h>

#include "graph/one_node.h"

namespace packlight::graph {
namespace {

using test::contains;
using Attributes = std::map<std::string, Attribute>;

const Dim h{std::string("h")}, w{std::string("w")};

TEST(ConvolutionRulesTest, KeepsSymbolsWhereTheSizeStays) {
  const auto conv = [](Attributes attributes) {
    return OneNode().input({n, 3, h, w}).input({8, 3, 3, 3}).run("Conv", std::move(attributes));
  };
  EXPECT_EQ(conv({{"auto_pad", std::string("SAME_UPPER")}}), "[n, 8, h, w]");
  EXPECT_EQ(conv({{"pads", list({1, 0, 1, 2})}}), "[n, 8, h, w]");
  EXPECT_EQ(conv({{"pads", list({1, 1, 1, 0})}}), "[n, 8, h, ?]");
  EXPECT_EQ(conv({{"pads", list({1, 1, 1, 1})}, {"strides", list({1, 2})}}), "[n, 8, h, ?]");
  EXPECT_EQ(OneNode().input({n, 4, 9}).input({8, 2, 3}).run("Conv", {{"group", int64_t{2}}}),
            "[n, 8, 7]");
  EXPECT_EQ(
      OneNode().input({n, 4, 9}).input({4, 2, 3}).run("ConvTranspose", {{"group", int64_t{2}}}),
      "[n, 4, 11]");
  EXPECT_EQ(OneNode().input({n, 4, h}).input({4, 2, 3}).run("ConvTranspose",
                                                            {{"output_shape", list({7})}}),
            "[n, 2, 7]");
}

TEST(ConvolutionRulesTest, Contradictions) {
  const auto conv = [](Shape x, Shape weight, Attributes attributes = {}) {
    return OneNode()
        .input(std::move(x))
        .input(std::move(weight))
        .run("Conv", std::move(attributes));
  };
  EXPECT_TRUE(contains(conv({1, 3, 8}, {4, 2, 3}), "has 3 channels"));
  EXPECT_TRUE(contains(conv({1, 3, 8}, {4, 3, 3, 3}), "differ in rank"));
  EXPECT_TRUE(contains(conv({1, 3}, {4, 3}), "no spatial axis"));
  EXPECT_TRUE(contains(conv({1, 4, 8}, {3, 2, 3}, {{"group", int64_t{2}}}), "do not divide"));
  EXPECT_TRUE(contains(conv({1, 3, 2}, {4, 3, 3}), "does not fit"));
  EXPECT_TRUE(contains(conv({1, 3, 8}, {4, 3, 3}, {{"strides", list({0})}}), "strides holds 0"));
  EXPECT_TRUE(contains(conv({1, 3, 8}, {4, 3, 3}, {{"pads", list({1})}}), "pads has 1 entries"));
  EXPECT_TRUE(contains(conv({1, 3, 8}, {4, 3, 3}, {{"pads", list({1, -1})}}), "pads holds -1"));
  EXPECT_TRUE(contains(conv({1, 3, 8}, {4, 3, 3}, {{"kernel_shape", list({5})}}), "kernel_shape"));
  EXPECT_TRUE(contains(conv({1, 3, 8}, {4, 3, 3}, {{"auto_pad", std::string("SAME")}}), "'SAME'"));
  EXPECT_TRUE(contains(conv({1, 3, int64_t{1} << 40}, {4, 3, 3}), "beyond"));
  EXPECT_TRUE(contains(OneNode().input({1, 3, 8}).input({4, 3, 3}).input({5}).run("Conv"), "bias"));
}

TEST(PoolingRulesTest, Shapes) {
  const Attributes two{{"kernel_shape", list({2, 2})}, {"strides", list({2, 2})}};
  EXPECT_EQ(OneNode().input({n, 3, h, 5}).run("MaxPool", two, 2), "[n, 3, ?, 2] [n, 3, ?, 2]");
  EXPECT_EQ(OneNode().input({n, 3, h, 5}).run("GlobalAveragePool"), "[n, 3, 1, 1]");
  EXPECT_TRUE(contains(OneNode().input({n, 3, 5}).run("AveragePool", two), "2 entries"));
  EXPECT_TRUE(contains(OneNode().input({n, 3, 5}).run("AveragePool"), "missing"));
}

TEST(ResamplingRulesTest, Shapes) {
  const at::Tensor twice = at::tensor({1.F, 1.F, 2.F, 0.7F});
  EXPECT_EQ(OneNode().input({n, 3, h, 10}).absent().weight(twice).run("Resize"), "[n, 3, ?, 7]");
  EXPECT_EQ(OneNode()
                .input({n, 3, h, 10})
                .absent()
                .absent()
                .constant({7, 9})
                .run("Resize", {{"axes", list({-1, 2})}}),
            "[n, 3, 9, 7]");
  EXPECT_EQ(OneNode()
                .input({n, 3, 4, 10})
                .absent()
                .absent()
                .constant({8, 5})
                .run("Resize", {{"axes", list({2, 3})},
                                {"keep_aspect_ratio_policy", std::string("not_larger")}}),
            "[n, 3, 2, 5]");
  EXPECT_TRUE(contains(OneNode().input({n, 3}).run("Resize"), "must be given"));
  EXPECT_TRUE(contains(OneNode().input({n, 3}).absent().weight(twice).run("Resize"), "4 entries"));
  EXPECT_EQ(OneNode().input({n, h, 5}).constant({0, 1, -1, 0, -1, 3}).run("Pad"), "[n, h, 7]");
  EXPECT_EQ(OneNode().input({n, h}).constant({0, 1, 0, 3}).run("Pad"), "[n, ?]");
  EXPECT_TRUE(contains(OneNode().input({n, 2}).constant({0, -1, 0, -2}).run("Pad"), "nothing"));
  EXPECT_TRUE(contains(OneNode().input({n, 2}).constant({0, -1}).run("Pad"), "2 entries"));
  EXPECT_EQ(OneNode().input({n, 8, h, 3}).run("DepthToSpace", {{"blocksize", int64_t{2}}}),
            "[n, 2, ?, 6]");
  EXPECT_TRUE(contains(
      OneNode().input({n, 8, h, 3}).run("SpaceToDepth", {{"blocksize", int64_t{2}}}), "divide"));
}

TEST(NormalizationRulesTest, ShapesAndContradictions) {
  EXPECT_EQ(OneNode().input({n, h, 4}).input({4}).run("LayerNormalization", {}, 3),
            "[n, h, 4] [n, h, 1] [n, h, 1]");
  EXPECT_TRUE(contains(OneNode().input({n, 4}).input({5}).run("LayerNormalization"), "broadcast"));
  EXPECT_TRUE(
      contains(OneNode().input({n, 4}).input({2, n, 4}).run("LayerNormalization"), "scale"));
  EXPECT_TRUE(contains(OneNode().input({n, 4, 2}).input({4}).input({5}).run(
                           "GroupNormalization", {{"num_groups", int64_t{2}}}),
                       "bias [5] is not [4]"));
  EXPECT_TRUE(contains(OneNode().input({n, 4, 2}).input({4}).input({4}).run(
                           "GroupNormalization", {{"num_groups", int64_t{3}}}),
                       "do not divide"));
  EXPECT_TRUE(contains(
      OneNode().input({n, 4}).input({4}).input({4}).input({3}).input({4}).run("BatchNormalization"),
      "mean [3] is not [4]"));
}

}  // namespace
}  // namespace packlight::graph

#include <gtest/gtest.h>

#include "graph/error_of.h"
#include "graph/one_node.h"
#include "operators/einsum.h"

namespace packlight::graph {
namespace {

using test::contains;
using test::error_of;

const ElementType kU8 = ElementType::kU8, kI8 = ElementType::kI8, kI32 = ElementType::kI32;

OneNode lstm(Dim batch, int64_t directions = 2) {
  return OneNode()
      .input({n, std::move(batch), 3})
      .input({directions, 20, 3})
      .input({directions, 20, 5});
}

TEST(RulesRecurrentTest, Shapes) {
  const std::map<std::string, Attribute> both{{"direction", "bidirectional"}};
  EXPECT_EQ(lstm(m).run("LSTM", both, 3), "[n, 2, m, 5] [2, m, 5] [2, m, 5]");
  EXPECT_EQ(lstm(m, 1).run("LSTM", {{"layout", int64_t{1}}}, 2), "[n, m, 1, 5] [n, 1, 5]");
  EXPECT_EQ(OneNode()
                .unknown_rank()
                .input({1, 15, 3})
                .unknown_rank()
                .run("GRU", {{"hidden_size", int64_t{5}}}, 2),
            "[?, 1, ?, 5] [1, ?, 5]");
  EXPECT_EQ(lstm(m).absent().input({7}, kI32).run("LSTM", both, 2), "[n, 2, 7, 5] [2, 7, 5]");
}

TEST(RulesRecurrentTest, Contradictions) {
  const std::map<std::string, Attribute> both{{"direction", "bidirectional"}};
  EXPECT_TRUE(contains(lstm(m).run("LSTM"), "W [2, 20, 3] should be [1, 20, 3]"));
  EXPECT_TRUE(contains(lstm(m).run("GRU", both), "W [2, 20, 3] should be [2, 15, 3]"));
  EXPECT_TRUE(contains(lstm(4).absent().input({7}, kI32).run("LSTM", both), "should be 4"));
  EXPECT_TRUE(contains(lstm(m).input({2, 20}).run("LSTM", both), "B [2, 20] should be [2, 40]"));
  EXPECT_TRUE(contains(lstm(m).run("LSTM", {{"direction", "up"}}), "direction 'up'"));
  EXPECT_TRUE(contains(lstm(m).run("LSTM", {{"hidden_size", int64_t{4}}}), "should be 4"));
  EXPECT_TRUE(contains(OneNode().input({n, 3}).input({1, 5, 3}).input({1, 5, 5}).run("RNN"),
                       "X [n, 3] must have rank 3"));
}

OneNode heads(Dim keys) {
  return OneNode().input({n, 4, m, 8}).input({n, 2, keys, 8}).input({n, 2, keys, 6});
}

TEST(RulesAttentionTest, Shapes) {
  EXPECT_EQ(heads(5).run("Attention", {}, 4),
            "[n, 4, m, 6] [n, 2, 5, 8] [n, 2, 5, 6] [n, 4, m, 5]");
  EXPECT_EQ(heads(5).absent().input({n, 2, 3, 8}).input({n, 2, 3, 6}).run("Attention", {}, 4),
            "[n, 4, m, 6] [n, 2, 8, 8] [n, 2, 8, 6] [n, 4, m, 8]");
  EXPECT_EQ(heads(5).input({1, 4}).run("Attention"), "[n, 4, m, 6]");
  EXPECT_EQ(heads(5).input({n, 1, m, 5}, ElementType::kBool).run("Attention"), "[n, 4, m, 6]");
}

TEST(RulesAttentionTest, Contradictions) {
  EXPECT_TRUE(contains(heads(5).input({1, 6}).run("Attention"),
                       "mask [1, 6] does not broadcast to [n, 4, m, 5]"));
  EXPECT_TRUE(contains(heads(5).input({1, 5}, kI32).run("Attention"), "the mask is I32"));
  EXPECT_TRUE(contains(heads(5).absent().input({n, 2, 3, 8}).run("Attention"), "together"));
  EXPECT_TRUE(contains(heads(5).absent().input({n, 2, 3, 7}).input({n, 2, 3, 6}).run("Attention"),
                       "past_key [n, 2, 3, 7] should be [n, 2, 3, 8]"));
  EXPECT_TRUE(contains(OneNode()
                           .input({n, 4, m, 8})
                           .input({n, m, 8})
                           .input({n, m, 8})
                           .run("Attention", {{"kv_num_heads", int64_t{1}}}),
                       "do not fit each other"));
  EXPECT_TRUE(contains(heads(5).run("Attention", {{"qk_matmul_output_mode", int64_t{5}}}), "5"));
}

TEST(RulesMatrixTest, Einsum) {
  const auto run = [](const char* equation, std::vector<Shape> shapes) {
    OneNode node;
    for (Shape& shape : shapes) node.input(std::move(shape));
    return node.run("Einsum", {{"equation", equation}});
  };
  EXPECT_EQ(run("bij, bjk -> bik", {{n, 2, 3}, {n, 3, m}}), "[n, 2, m]");
  EXPECT_EQ(run("ij,jk", {{2, 3}, {3, 4}}), "[2, 4]");
  EXPECT_EQ(run("ba", {{2, 3}}), "[3, 2]");
  EXPECT_EQ(run("...ij,...jk->...ik", {{n, 1, 2, 3}, {5, 3, 4}}), "[n, 5, 2, 4]");
  EXPECT_EQ(run("...ii->...i", {{7, 3, 3}}), "[7, 3]");
  EXPECT_EQ(run("ij->", {{2, 3}}), "[]");
  EXPECT_TRUE(
      contains(run("ij,jk->ik", {{2, 3}, {4, 5}}), "'j' stands for 3 and, in [4, 5], for 4"));
  EXPECT_TRUE(contains(run("ij->ij", {{2}}), "term 'ij' does not fit [2]"));
  EXPECT_TRUE(contains(run("ij,jk->ik", {{2, 3}}), "2 terms for 1 operands"));
  EXPECT_TRUE(contains(run("ij->ik", {{2, 3}}), "'k' of the output occurs in no operand"));
  EXPECT_TRUE(contains(run("ij->ii", {{2, 3}}), "'i' occurs twice"));
  EXPECT_TRUE(contains(run("i..j", {{2, 3}}), "'.' is no letter"));
  EXPECT_TRUE(contains(run("...i...", {{2, 3}}), "two ellipses"));
  EXPECT_TRUE(contains(run("", {{2, 3}}), "term '' does not fit"));
}

TEST(RulesMatrixTest, EinsumWithoutAnOutputIsWrittenOut) {
  EXPECT_EQ(operators::parse_einsum("b...A, ...Ac", 2).to_string(), "b...A,...Ac->...bc");
}

TEST(RulesQuantizedTest, Granularity) {
  const auto quantize = [](Shape scale, std::map<std::string, Attribute> attributes) {
    return OneNode()
        .input({n, 6})
        .input(std::move(scale))
        .run("QuantizeLinear", std::move(attributes));
  };
  EXPECT_EQ(quantize({}, {}), "[n, 6]");
  EXPECT_EQ(quantize({6}, {}), "[n, 6]");
  EXPECT_EQ(quantize({n, 2}, {{"block_size", int64_t{4}}}), "[n, 6]");
  EXPECT_TRUE(contains(quantize({5}, {}), "the scale [5] should be [6]"));
  EXPECT_TRUE(contains(quantize({n, 3}, {{"block_size", int64_t{4}}}), "should be [n, 2]"));
  EXPECT_TRUE(contains(quantize({6}, {{"axis", int64_t{2}}}), "axis 2"));
  EXPECT_TRUE(contains(quantize({}, {{"output_dtype", int64_t{6}}}), "the output is I32"));
  EXPECT_TRUE(contains(OneNode().input({n}).input({}).input({}, kI8).run(
                           "QuantizeLinear", {{"output_dtype", int64_t{2}}}),
                       "output_dtype U8 differs from the zero point's I8"));
  EXPECT_TRUE(contains(OneNode().input({n}, kI8).input({}).input({}, kU8).run("DequantizeLinear"),
                       "the zero point is U8"));
}

TEST(RulesQuantizedTest, Products) {
  EXPECT_EQ(OneNode().input({n, 3}, kU8).input({3, 4}, kI8).run("MatMulInteger"), "[n, 4]");
  EXPECT_TRUE(contains(OneNode().input({n, 3}).input({3, 4}, kI8).run("MatMulInteger"), "is F32"));
  const auto conv = [](std::map<std::string, Attribute> attributes) {
    return OneNode()
        .input({n, 4, 7, m}, kU8)
        .input({6, 2, 3, 3}, kU8)
        .run("ConvInteger", std::move(attributes));
  };
  EXPECT_EQ(conv({{"group", int64_t{2}}, {"pads", list({1, 1, 0, 1})}, {"strides", list({2, 1})}}),
            "[n, 6, 3, m]");
  EXPECT_EQ(conv({{"group", int64_t{2}}, {"auto_pad", "SAME_LOWER"}, {"strides", list({2, 1})}}),
            "[n, 6, 4, m]");
  EXPECT_TRUE(contains(conv({}), "in 1 groups takes 2"));
  EXPECT_TRUE(
      contains(conv({{"group", int64_t{2}}, {"dilations", list({4, 1})}}), "does not fit axis 2"));
  EXPECT_TRUE(contains(conv({{"group", int64_t{2}}, {"pads", list({1})}}), "pads has 1 entries"));
}

TEST(RulesQuantizedTest, MatMulNBits) {
  const auto run = [](Shape packed, int64_t bits) {
    return OneNode()
        .input({n, m, 40})
        .input(std::move(packed), kU8)
        .input({9, 2})
        .run("MatMulNBits",
             {{"K", int64_t{40}}, {"N", int64_t{9}}, {"block_size", int64_t{32}}, {"bits", bits}},
             1, "com.microsoft");
  };
  EXPECT_EQ(run({9, 2, 16}, 4), "[n, m, 9]");
  EXPECT_EQ(run({9, 2, 32}, 8), "[n, m, 9]");
  EXPECT_TRUE(contains(run({9, 1, 16}, 4), "B [9, 1, 16] should be [9, 2, 16]"));
  EXPECT_TRUE(contains(run({9, 2, 16}, 3), "Unsupported"));
}

}  // namespace
}  // namespace packlight::graph

#include <gtest/gtest.h>

#include "exec/small_net.h"
#include "graph/simplify/fold_affine.h"

namespace packlight::exec {
namespace {

using graph::Graph;
using graph::ValueId;
using test::Attributes;
using test::count;
using test::expect_same_outputs;
using test::noise;
using test::SmallNet;

const std::string kBatch = "n";
constexpr int64_t kChannels = 4;
// A sum of 2 x 9 products, and one rounding of each changed weight; twice that for safety in both
// networks.
constexpr int kRoundings = 4 * 20;

ValueId conv(SmallNet& net, ValueId x, int64_t groups, int64_t pad, bool bias) {
  std::vector<ValueId> inputs = {x, net.constant(noise({kChannels, kChannels / groups, 3, 3}, 5))};
  if (bias) inputs.push_back(net.constant(noise({kChannels}, 6)));
  return net.op("Conv", inputs,
                {{"group", groups}, {"pads", std::vector<int64_t>{pad, pad, pad, pad}}});
}

ValueId batch_norm(SmallNet& net, ValueId x, int64_t channels = kChannels) {
  return net.op(
      "BatchNormalization",
      {x, net.constant(noise({channels}, 1)), net.constant(noise({channels}, 2)),
       net.constant(noise({channels}, 3)), net.constant(noise({channels}, 4).abs() + 0.5)},
      {{"epsilon", 1e-3}});
}

struct Affine {
  const char* name;
  ValueId (*add)(SmallNet&, ValueId x);
};
const std::vector<Affine> kAffines = {
    {"Mul",
     [](SmallNet& n, ValueId x) {
       return n.op("Mul", {n.constant(noise({1}, 8)), x});
     }},
    {"Add",
     [](SmallNet& n, ValueId x) {
       return n.op("Add", {x, n.constant(noise({1, 4, 1, 1}, 8))});
     }},
    {"Sub",
     [](SmallNet& n, ValueId x) {
       return n.op("Sub", {n.constant(noise({4, 1, 1}, 8)), x});
     }},
    {"Div",
     [](SmallNet& n, ValueId x) {
       return n.op("Div", {x, n.constant(noise({4, 1, 1}, 8) + 2)});
     }},
    {"BatchNormalization", [](SmallNet& n, ValueId x) { return batch_norm(n, x); }},
};

TEST(SimplifyFoldTest, AffineAfterConvolution) {
  for (const Affine& affine : kAffines) {
    for (const bool bias : {false, true}) {
      for (const int64_t groups : {1, 2, 4}) {
        for (const char* op : {"Conv", "ConvTranspose"}) {
          SCOPED_TRACE(std::string(affine.name) + " after " + op);
          SmallNet net;
          const ValueId x = net.input("x", {kBatch, 4, 5, 5});
          const ValueId y = conv(net, x, groups, 1, bias);
          net.graph.node(0).op = op;
          net.returns({affine.add(net, y)});
          Graph after = net.graph;
          EXPECT_EQ(graph::fold_after_convolution(after), 1);
          EXPECT_EQ(after.nodes().size(), 1u);
          EXPECT_TRUE(after.find("w0"));  // the weight keeps its name
          expect_same_outputs(net.graph, after, kRoundings);
        }
      }
    }
  }
}

TEST(SimplifyFoldTest, AffineBeforeConvolution) {
  for (const Affine& affine : kAffines) {
    for (const int64_t groups : {1, 2, 4}) {
      for (const int64_t pad : {0, 1}) {
        SCOPED_TRACE(affine.name);
        SmallNet net;
        const ValueId x = net.input("x", {kBatch, 4, 5, 5});
        net.returns({conv(net, affine.add(net, x), groups, pad, pad == 0)});
        Graph after = net.graph;
        const bool shifts = std::string(affine.name) != "Mul" && std::string(affine.name) != "Div";
        EXPECT_EQ(graph::fold_before_convolution(after), shifts && pad > 0 ? 0 : 1);
        expect_same_outputs(net.graph, after, kRoundings);
      }
    }
  }
}

TEST(SimplifyFoldTest, WhatOthersUseIsLeft) {
  SmallNet shared_output;
  ValueId x = shared_output.input("x", {kBatch, 4, 5, 5});
  ValueId y = conv(shared_output, x, 1, 0, true);
  shared_output.returns({shared_output.op("Mul", {y, shared_output.number(2)}), y});
  EXPECT_EQ(graph::fold_after_convolution(shared_output.graph), 0);

  SmallNet shared_weight;
  x = shared_weight.input("x", {kBatch, 4, 5, 5});
  y = conv(shared_weight, x, 1, 0, false);
  const ValueId weight = shared_weight.graph.node(0).inputs[1];
  shared_weight.returns({shared_weight.op("Mul", {y, shared_weight.number(2)}),
                         shared_weight.op("Conv", {x, weight})});
  EXPECT_EQ(graph::fold_after_convolution(shared_weight.graph), 0);

  SmallNet shared_bias;  // gets one of its own
  x = shared_bias.input("x", {kBatch, 4, 5, 5});
  y = conv(shared_bias, x, 1, 0, true);
  const ValueId bias = shared_bias.graph.node(0).inputs[2];
  shared_bias.returns(
      {shared_bias.op("Mul", {y, shared_bias.number(2)}), shared_bias.op("Mul", {bias, bias})});
  Graph after = shared_bias.graph;
  EXPECT_EQ(graph::fold_after_convolution(after), 1);
  expect_same_outputs(shared_bias.graph, after, kRoundings);
}

TEST(SimplifyFoldTest, OtherConstantsAreLeft) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{4}, {1, 4}, {2, 1, 1, 1}, {1, 1, 4, 1, 1}, {3, 3}}) {
    SmallNet net;
    const ValueId y = conv(net, net.input("x", {2, 4, 6, 6}), 1, 0, true);  // y: [2, 4, 4, 4]
    if (shape == std::vector<int64_t>{3, 3}) continue;                      // does not broadcast
    net.returns({net.op("Mul", {y, net.constant(noise(shape, 9))})});
    EXPECT_EQ(graph::fold_after_convolution(net.graph), 0) << shape;
  }
}

TEST(SimplifyFoldTest, TheInputThatTheConstantWidensIsLeft) {
  SmallNet net;  // [n, 1, 5, 5] * [4, 1, 1] has four channels
  const ValueId x = net.input("x", {kBatch, 1, 5, 5});
  net.returns({conv(net, net.op("Mul", {x, net.constant(noise({4, 1, 1}, 1))}), 1, 0, true)});
  EXPECT_EQ(graph::fold_before_convolution(net.graph), 0);
}

TEST(SimplifyFoldTest, BatchNormAfterLinear) {
  for (const bool gemm : {false, true}) {
    for (const bool turned : {false, true}) {
      for (const bool bias : {false, true}) {
        SmallNet net;
        const ValueId x = net.input("x", {kBatch, 3});
        ValueId w = net.constant(turned ? noise({4, 3}, 1) : noise({3, 4}, 1));
        if (turned) w = net.op("Transpose", {w});
        std::vector<ValueId> inputs = {x, w};
        if (gemm && bias) inputs.push_back(net.constant(noise({1, 4}, 2)));
        ValueId y = net.op(gemm ? "Gemm" : "MatMul", inputs,
                           gemm ? Attributes{{"alpha", 0.5}, {"beta", 2.0}} : Attributes{});
        if (!gemm && bias) y = net.op("Add", {net.constant(noise({4}, 2)), y});
        net.returns({batch_norm(net, y)});
        Graph after = net.graph;
        EXPECT_EQ(graph::fold_after_linear(after), 1);
        EXPECT_EQ(count(after, "BatchNormalization"), 0);
        EXPECT_EQ(count(after, "Add"), gemm ? 0 : 1);
        expect_same_outputs(net.graph, after, kRoundings);
      }
    }
  }
}

TEST(SimplifyFoldTest, BatchNormOverAnotherAxisIsLeft) {
  SmallNet net;  // channels are the second of three dimensions
  const ValueId x = net.input("x", {kBatch, 4, 3});
  net.returns({batch_norm(net, net.op("MatMul", {x, net.constant(noise({3, 4}, 1))}))});
  EXPECT_EQ(graph::fold_after_linear(net.graph), 0);
}

}  // namespace
}  // namespace packlight::exec

#include "graph/coupling/coupling.h"

#include <gtest/gtest.h>

#include "exec/coupling_cut.h"
#include "graph/error_of.h"

namespace packlight::exec {
namespace {

using graph::Coupling;
using graph::Graph;
using graph::Group;
using graph::GroupKind;
using graph::ValueId;
using test::contains;
using test::error_of;
using test::group_named;
using test::noise;
using test::SmallNet;

const std::string kN = "n";

// A convolution with a bias; its weights are named after it.
ValueId conv(SmallNet& net, ValueId x, int64_t in, int64_t out, int64_t kernel = 1,
             int64_t groups = 1) {
  const int64_t pad = kernel / 2;
  return net.op("Conv",
                {x, net.constant(noise({out, in / groups, kernel, kernel}, net.made)),
                 net.constant(noise({out}, net.made))},
                {{"group", groups}, {"pads", std::vector<int64_t>{pad, pad, pad, pad}}});
}

std::string name_of(const SmallNet& net, ValueId value) {
  return net.graph.node(net.graph.value(value).producer).name;
}

TEST(CouplingTest, AChainCouplesOutputsWithTheNextLayersInputs) {
  SmallNet net;
  const ValueId hidden = conv(net, net.input("x", {kN, 3, 5, 5}), 3, 8, 3);
  const ValueId normal = net.op("BatchNormalization",
                                {hidden, net.constant(noise({8}, 1)), net.constant(noise({8}, 2)),
                                 net.constant(noise({8}, 3)), net.constant(at::ones({8}))});
  const ValueId deep = conv(net, net.op("Relu", {normal}), 8, 8, 3, 8);
  const ValueId out = conv(net, deep, 8, 4);
  net.returns({out});
  const Coupling coupling(net.graph);
  const Group* group = group_named(coupling, name_of(net, hidden));
  ASSERT_NE(group, nullptr);
  EXPECT_EQ(group->blocked, "");
  EXPECT_EQ(group->units, 8);
  // Two rows and two biases, four vectors of the normalisation, the columns of the last.
  EXPECT_EQ(group->slots.size(), 9u);
  const Group* last = group_named(coupling, name_of(net, out));
  ASSERT_NE(last, nullptr);
  EXPECT_TRUE(contains(last->blocked, "output"));

  Coupling::Removed removed = coupling.none();
  const size_t index = group - coupling.groups().data();
  removed[index] = {false, true, false, false, true, false, false, true};
  const Graph before = test::masked(net.graph, coupling, removed);
  const Graph after = coupling.cut(before, removed);
  test::expect_same_outputs(before, after, 16);
  const graph::Node& depthwise = after.node(after.value(deep).producer);
  EXPECT_EQ(depthwise.integer("group", 1), 5);
  EXPECT_EQ(graph::to_string(*after.value(deep).shape), "[n, 5, 5, 5]");
  // The same sizes without elements.
  const Graph sizes = coupling.cut(before, removed, true);
  EXPECT_EQ(std::get<at::Tensor>(*sizes.value(depthwise.inputs[1]).weight).sizes(),
            at::IntArrayRef({5, 1, 3, 3}));
}

TEST(CouplingTest, CutsThatWouldLeaveNothingOrThatAreBlockedAreRefused) {
  SmallNet net;
  const ValueId hidden = conv(net, net.input("x", {kN, 3, 5, 5}), 3, 4);
  const ValueId out = conv(net, hidden, 4, 2);
  net.returns({out});
  const Coupling coupling(net.graph);
  const auto index = [&](ValueId value) {
    return group_named(coupling, name_of(net, value)) - coupling.groups().data();
  };
  Coupling::Removed removed = coupling.none();
  removed[index(hidden)].assign(4, true);
  EXPECT_TRUE(contains(error_of([&] { coupling.cut(net.graph, removed); }), "all 4 units"));
  removed = coupling.none();
  removed[index(out)] = {true, false};
  EXPECT_TRUE(contains(error_of([&] { coupling.cut(net.graph, removed); }), "cannot be cut"));
  removed = coupling.none();
  removed[index(hidden)] = {true};
  EXPECT_TRUE(contains(error_of([&] { coupling.cut(net.graph, removed); }), "InvalidArgument"));
  EXPECT_TRUE(contains(error_of([&] { coupling.cut(net.graph, {}); }), "InvalidArgument"));
}

TEST(CouplingTest, OperatorsWithoutARuleStopEveryGroupThatReachesThem) {
  SmallNet net;
  const ValueId hidden = conv(net, net.input("x", {kN, 3, 5, 5}), 3, 4);
  const ValueId folded = net.op("DepthToSpace", {hidden}, {{"blocksize", int64_t{2}}});
  net.returns({conv(net, folded, 1, 2)});
  const Coupling coupling(net.graph);
  const Group* group = group_named(coupling, name_of(net, hidden));
  ASSERT_NE(group, nullptr);
  EXPECT_TRUE(contains(group->blocked, "DepthToSpace"));
  EXPECT_TRUE(contains(group->blocked, "no rule"));
}

TEST(CouplingTest, WhatCountsThoughItIsZeroStays) {
  for (const char* op : {"Softmax", "ReduceMean", "ReduceSum"}) {
    SmallNet net;
    const ValueId hidden = conv(net, net.input("x", {kN, 3, 5, 5}), 3, 4);
    const test::Attributes axis =
        op == std::string("Softmax") ? test::Attributes{{"axis", int64_t{1}}} : test::Attributes{};
    std::vector<ValueId> inputs{net.op("Sigmoid", {hidden})};
    if (axis.empty()) inputs.push_back(net.ints({1}));
    net.returns({net.op(op, inputs, axis)});
    const Coupling coupling(net.graph);
    const Group* group = group_named(coupling, name_of(net, hidden));
    ASSERT_NE(group, nullptr);
    EXPECT_TRUE(contains(group->blocked, op));
  }
}

// [n, s, 9 heads of 4] on 3 heads of keys, as our decoders have them.
struct AttentionNet : SmallNet {
  ValueId q, k, v, mixed;
  AttentionNet() {
    const ValueId x = input("x", {kN, std::string("s"), 8});
    q = op("MatMul", {x, constant(noise({8, 36}, 1))});
    k = op("MatMul", {x, constant(noise({8, 12}, 2))});
    v = op("MatMul", {x, constant(noise({8, 12}, 3))});
    mixed = op("Attention", {q, k, v},
               {{"q_num_heads", int64_t{9}}, {"kv_num_heads", int64_t{3}}, {"scale", 0.5}});
    returns({op("MatMul", {mixed, constant(noise({36, 5}, 4))})});
  }
};

TEST(CouplingTest, QueryHeadsBelongToTheirKeys) {
  const AttentionNet net;
  const Coupling coupling(net.graph);
  const Group *heads = group_named(coupling, name_of(net, net.q)),
              *keys = group_named(coupling, name_of(net, net.k));
  ASSERT_NE(heads, nullptr);
  ASSERT_NE(keys, nullptr);
  EXPECT_EQ(heads->kind, GroupKind::kHeads);
  EXPECT_EQ(keys->kind, GroupKind::kKeyValueHeads);
  EXPECT_EQ(heads->units, 9);
  EXPECT_EQ(keys->units, 3);
  EXPECT_EQ(heads->parent, keys - coupling.groups().data());
  EXPECT_EQ(heads->per_parent, 3);

  const size_t of_heads = heads - coupling.groups().data(),
               of_keys = keys - coupling.groups().data();
  Coupling::Removed removed = coupling.none();
  removed[of_keys] = {false, true, false};
  Graph before = test::masked(net.graph, coupling, removed);
  Graph after = coupling.cut(before, removed);
  test::expect_same_outputs(before, after, 32);
  EXPECT_EQ(after.node(after.value(net.mixed).producer).integer("q_num_heads", 0), 6);
  EXPECT_EQ(after.node(after.value(net.mixed).producer).integer("kv_num_heads", 0), 2);

  removed = coupling.none();  // another one of each three
  removed[of_heads] = {true, false, false, false, true, false, false, false, true};
  before = test::masked(net.graph, coupling, removed);
  after = coupling.cut(before, removed);
  test::expect_same_outputs(before, after, 32);
  EXPECT_EQ(after.node(after.value(net.mixed).producer).integer("q_num_heads", 0), 6);
  EXPECT_EQ(after.node(after.value(net.mixed).producer).integer("kv_num_heads", 0), 3);

  removed[of_heads][3] = true;  // two of the second three
  EXPECT_TRUE(contains(error_of([&] { coupling.cut(net.graph, removed); }), "query heads"));
}

TEST(CouplingTest, TheWidthOfAResidualStreamKeepsItsMeanSquare) {
  SmallNet net;
  const ValueId tokens =
      net.graph.add_input("tokens", graph::ElementType::kI64, {kN, std::string("s")});
  const ValueId table = net.constant(noise({10, 12}, 1));
  const ValueId hidden = net.op("Gather", {table, tokens});
  const ValueId normal =
      net.op("RMSNormalization", {hidden, net.constant(noise({12}, 2))}, {{"epsilon", 0.25}});
  const ValueId inner = net.op("MatMul", {normal, net.constant(noise({12, 6}, 3))});
  const ValueId sum =
      net.op("Add", {hidden, net.op("MatMul", {inner, net.constant(noise({6, 12}, 4))})});
  net.returns({net.op("MatMul", {net.op("RMSNormalization", {sum, net.constant(noise({12}, 5))}),
                                 net.constant(noise({12, 3}, 6))})});
  const Coupling coupling(net.graph);
  const Group* width = nullptr;
  for (const Group& group : coupling.groups()) {
    if (group.kind == GroupKind::kWidth) width = &group;
  }
  ASSERT_NE(width, nullptr);
  EXPECT_EQ(width->blocked, "");
  EXPECT_EQ(width->slots.size(), 6u);
  Coupling::Removed removed = coupling.none();
  removed[width - coupling.groups().data()] = {true,  false, false, true,  false, false,
                                               false, true,  false, false, false, false};
  const Graph before = test::masked(net.graph, coupling, removed);
  const Graph after = coupling.cut(before, removed);
  const std::unordered_map<std::string, at::Tensor> inputs{
      {"tokens", at::arange(8).reshape({2, 4})}};
  const at::Tensor want = Executor(before).run(inputs).begin()->second,
                   got = Executor(after).run(inputs).begin()->second;
  EXPECT_TRUE(test::close(got, want, 64 * 0x1p-24 * want.abs().max().item<double>()));
}

TEST(CouplingTest, HeadsAreFoundThroughReshapesOfAFusedProduct) {
  SmallNet net;  // as PP-OCR recognition has it
  const ValueId x = net.input("x", {kN, std::string("s"), 8});
  const ValueId qkv = net.op("MatMul", {x, net.constant(noise({8, 3 * 4 * 5}, 1))});
  const ValueId parts = net.op("Transpose", {net.op("Reshape", {qkv, net.ints({0, -1, 3, 4, 5})})},
                               {{"perm", std::vector<int64_t>{2, 0, 3, 1, 4}}});
  ValueId part[3];
  for (int64_t i = 0; i < 3; ++i)
    part[i] = net.op(
        "Squeeze",
        {net.op("Slice", {parts, net.ints({i}), net.ints({i + 1}), net.ints({0})}), net.ints({0})});
  const ValueId turned =
      net.op("Transpose", {part[1]}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  const ValueId shares =
      net.op("Softmax", {net.op("MatMul", {part[0], turned})}, {{"axis", int64_t{-1}}});
  const ValueId mixed = net.op("Transpose", {net.op("MatMul", {shares, part[2]})},
                               {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  const ValueId joined = net.op("Reshape", {mixed, net.ints({0, -1, 20})});
  net.returns({net.op("MatMul", {joined, net.constant(noise({20, 6}, 2))})});
  const Coupling coupling(net.graph);
  Coupling::Removed removed = coupling.none();
  int found = 0;
  for (size_t i = 0; i < coupling.groups().size(); ++i) {
    const Group& group = coupling.groups()[i];
    if (!group.blocked.empty()) continue;
    ++found;
    EXPECT_EQ(group.units, 4);
    removed[i] = {false, true, true, false};
  }
  ASSERT_EQ(found, 1);
  const Graph before = test::masked(net.graph, coupling, removed);
  const Graph after = coupling.cut(before, removed);
  test::expect_same_outputs(before, after, 32);
  EXPECT_EQ(graph::to_string(*after.value(joined).shape), "[n, s, 10]");
}

}  // namespace
}  // namespace packlight::exec

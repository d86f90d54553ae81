#include "graph/simplify/simplify.h"

#include <gtest/gtest.h>

#include "exec/evaluate.h"
#include "exec/small_net.h"
#include "graph/error_of.h"
#include "graph/simplify/fold_shapes.h"
#include "graph/simplify/merge_common.h"
#include "graph/simplify/remove_dead.h"
#include "graph/simplify/remove_no_ops.h"

namespace packlight::exec {
namespace {

using graph::Dim;
using graph::Graph;
using graph::ValueId;
using test::close;
using test::count;
using test::expect_same_outputs;
using test::noise;
using test::SmallNet;

const std::string kBatch = "n";

TEST(SimplifyTest, EvaluateNodeRunsOneNode) {
  SmallNet net;
  const ValueId x = net.input("x", {2});
  net.returns({net.op("Add", {x, x})});
  const at::Tensor half = at::full({2}, 1.5, at::kHalf);
  const auto result = evaluate_node(net.graph, net.graph.node(0), std::vector{half, half});
  EXPECT_TRUE(close(result.at(0), at::full({2}, 3.f), 0));
  EXPECT_EQ(result.at(0).scalar_type(), at::kFloat);
  net.graph.node(0).op = "Nothing";
  EXPECT_TRUE(test::contains(
      test::error_of([&] { evaluate_node(net.graph, net.graph.node(0), {}); }), "'Nothing'"));
}

TEST(SimplifyTest, ConstantsFoldInAChainAndKeepTheirNames) {
  SmallNet net;
  const ValueId x = net.input("x", {2, 3});
  const ValueId sum = net.op("Add", {net.constant(noise({3}, 1)), net.constant(noise({3}, 2))});
  const ValueId product = net.op("Mul", {sum, sum});
  net.returns({net.op("Add", {x, product}), product});
  Graph after = net.graph;
  EXPECT_EQ(graph::fold_constants(after, evaluate_node), 2);
  EXPECT_EQ(after.nodes().size(), 1u);
  EXPECT_TRUE(after.value(*after.find(net.graph.value(product).name)).weight);
  expect_same_outputs(net.graph, after, 0);
}

TEST(SimplifyTest, ConstantsStayWhereFoldingWouldHarm) {
  SmallNet net;
  const ValueId x = net.input("x", {2, 3});
  const ValueId weight = net.constant(noise({4, 3}, 1));
  const ValueId turned = net.op("Transpose", {weight}, {{"perm", std::vector<int64_t>{1, 0}}});
  const ValueId product = net.op("MatMul", {x, turned});
  const ValueId column = net.constant(noise({1000, 1}, 2)), row = net.constant(noise({1, 1000}, 3));
  net.returns({product, net.op("Mul", {column, row}),
               net.op("Div", {net.constant(at::ones({1})), net.constant(at::zeros({1}))})});
  Graph after = net.graph;
  EXPECT_EQ(graph::fold_constants(after, evaluate_node, {.growth_bytes = 1 << 16}), 0);
  EXPECT_EQ(after.nodes().size(), 4u);
  EXPECT_EQ(graph::fold_constants(after, evaluate_node, {.growth_bytes = 8 << 20}), 1);
  EXPECT_EQ(count(after, "Mul"), 0);
  ASSERT_TRUE(graph::linear_weight(after, after.node(1)));
  EXPECT_TRUE(graph::linear_weight(after, after.node(1))->transposed);
  // Nothing is known without an evaluator.
  EXPECT_EQ(graph::fold_constants(after, nullptr), 0);
}

TEST(SimplifyTest, MatricesReshapedForAProductStay) {
  SmallNet net;
  const ValueId x = net.input("x", {2, 4});
  const ValueId w = net.op("Reshape", {net.constant(noise({2, 6}, 1)), net.ints({3, 4})});
  net.returns(
      {net.op("MatMul", {x, net.op("Transpose", {w})}),
       net.op("Add", {x, net.op("Reshape", {net.constant(noise({4}, 1)), net.ints({1, 4})})})});
  EXPECT_EQ(graph::fold_constants(net.graph, evaluate_node), 1);
  EXPECT_EQ(count(net.graph, "Transpose"), 1);
  EXPECT_EQ(count(net.graph, "Reshape"), 1);
}

// x: [n, 2, 3] -> Shape's first element, 6 -> Reshape.
SmallNet flattening(std::vector<ValueId> (*target)(SmallNet&, ValueId shape)) {
  SmallNet net;
  const ValueId x = net.input("x", {kBatch, 2, 3});
  const ValueId shape = net.op("Shape", {x});
  net.returns(
      {net.op("Reshape", {x, net.op("Concat", target(net, shape), {{"axis", int64_t{0}}})})});
  return net;
}
ValueId element(SmallNet& net, ValueId shape, int64_t at) {
  return net.op("Gather", {shape, net.ints({at})});
}

TEST(SimplifyTest, ReshapeToOneSymbolInfersIt) {
  const SmallNet net = flattening([](SmallNet& n, ValueId shape) {
    return std::vector{element(n, shape, 0), n.ints({6})};
  });
  Graph after = net.graph;
  EXPECT_GT(graph::fold_shapes(after), 0);
  ASSERT_EQ(after.nodes().size(), 1u);
  EXPECT_EQ(*std::get<at::Tensor>(*after.value(after.node(0).inputs[1]).weight).data_ptr<int64_t>(),
            -1);
  expect_same_outputs(net.graph, after, 0);
}

TEST(SimplifyTest, KnownPartsOfAShapeBecomeWeights) {
  const SmallNet net = flattening([](SmallNet& n, ValueId shape) {
    return std::vector{element(n, shape, 2), element(n, shape, 0), element(n, shape, 1)};
  });
  Graph copy = net.graph;
  EXPECT_FALSE(graph::known_integers(copy).empty());
  Graph after = net.graph;
  EXPECT_GT(graph::fold_shapes(after), 0);
  EXPECT_EQ(after.nodes().size(), 1u);  // [3, -1, 2]
  expect_same_outputs(net.graph, after, 0);
}

TEST(SimplifyTest, DeadNodesAndUnwantedOutputsGo) {
  SmallNet net;
  const ValueId x = net.input("x", {2});
  const ValueId dead = net.op("Add", {x, net.number(1)});
  net.op("Mul", {dead, dead});
  net.returns({net.op("Sigmoid", {x})});
  Graph after = net.graph;
  EXPECT_EQ(graph::remove_dead(after), 2);
  EXPECT_EQ(after.values().size(), 2u);
  expect_same_outputs(net.graph, after, 0);
  EXPECT_EQ(graph::remove_dead(after), 0);
}

TEST(SimplifyTest, EqualNodesAndConstantsMerge) {
  SmallNet net;
  const ValueId x = net.input("x", {2, 3});
  const auto part = [&](double number, int64_t axis) {
    return net.op("Softmax", {net.op("Mul", {x, net.number(number)})}, {{"axis", axis}});
  };
  const ValueId a = part(2, 1), b = part(2, 1), c = part(2, 0), d = part(3, 1);
  const ValueId e = net.op("Add", {net.op("Add", {a, b}), net.op("Add", {c, d})});
  net.returns({e, b, a});
  Graph after = net.graph;
  EXPECT_EQ(graph::merge_weights(after), 2);
  EXPECT_EQ(graph::merge_nodes(after),
            2);  // two Muls; both Softmax are outputs and keep their names
  EXPECT_EQ(count(after, "Mul"), 2);
  EXPECT_EQ(count(after, "Softmax"), 4);
  expect_same_outputs(net.graph, after, 0);
}

TEST(SimplifyTest, AMergedNodeThatIsAnOutputKeepsItsName) {
  SmallNet net;
  const ValueId x = net.input("x", {2, 3});
  const ValueId a = net.op("Sigmoid", {x}), b = net.op("Sigmoid", {x});
  net.returns({net.op("Mul", {a, x}), b});
  Graph after = net.graph;
  EXPECT_EQ(graph::merge_nodes(after), 1);
  EXPECT_EQ(count(after, "Sigmoid"), 1);
  expect_same_outputs(net.graph, after, 0);
}

TEST(SimplifyTest, ParametersThatHappenToBeEqualStayTwo) {
  SmallNet net;
  const ValueId x = net.input("x", {2});
  net.returns({net.op("Add", {net.op("Sigmoid", {net.op("Add", {x, net.constant(at::zeros({2}))})}),
                              net.constant(at::zeros({2}))})});
  Graph after = net.graph;
  EXPECT_EQ(graph::merge_weights(after), 0);
  EXPECT_EQ(graph::merge_weights(after, true), 1);
  expect_same_outputs(net.graph, after, 0);
}

// Each no-op, between two nodes that stay.
struct NoOp {
  const char* name;
  ValueId (*add)(SmallNet&, ValueId x);  // x: [n, 2, 3]
  int removed;
};
class SimplifyNoOpTest : public ::testing::TestWithParam<NoOp> {};

TEST_P(SimplifyNoOpTest, GoesOrStays) {
  SmallNet net;
  const ValueId x = net.op("Sigmoid", {net.input("x", {kBatch, 2, 3})});
  const ValueId middle = GetParam().add(net, x);
  net.returns({net.op("Sigmoid", {middle})});
  Graph after = net.graph;
  EXPECT_EQ(graph::remove_no_ops(after), GetParam().removed);
  EXPECT_EQ(net.graph.nodes().size() - after.nodes().size(), GetParam().removed);
  expect_same_outputs(net.graph, after, 0);
  // The same as the last node: the output keeps its name.
  SmallNet last;
  const ValueId y = last.op("Sigmoid", {last.input("x", {kBatch, 2, 3})});
  last.returns({GetParam().add(last, y)});
  after = last.graph;
  EXPECT_EQ(graph::remove_no_ops(after), GetParam().removed);
  expect_same_outputs(last.graph, after, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Operators, SimplifyNoOpTest,
    ::testing::Values(
        NoOp{"identity", [](SmallNet& n, ValueId x) { return n.op("Identity", {x}); }, 1},
        NoOp{"cast",
             [](SmallNet& n, ValueId x) {
               return n.op("Cast", {x}, {{"to", int64_t{1}}});
             },
             1},
        NoOp{"cast_int",
             [](SmallNet& n, ValueId x) {
               const ValueId whole = n.op("Cast", {x}, {{"to", int64_t{7}}});
               return n.op("Cast", {whole}, {{"to", int64_t{1}}});
             },
             0},
        NoOp{"add_zero",
             [](SmallNet& n, ValueId x) {
               return n.op("Add", {n.number(0), x});
             },
             1},
        NoOp{"add_one",
             [](SmallNet& n, ValueId x) {
               return n.op("Add", {n.number(1), x});
             },
             0},
        NoOp{"add_zero_wider",
             [](SmallNet& n, ValueId x) {
               return n.op("Add", {x, n.constant(at::zeros({1, 1, 1, 1}))});
             },
             0},
        NoOp{"sub_zero",
             [](SmallNet& n, ValueId x) {
               return n.op("Sub", {x, n.constant(at::zeros({3}))});
             },
             1},
        NoOp{"zero_minus",
             [](SmallNet& n, ValueId x) {
               return n.op("Sub", {n.number(0), x});
             },
             0},
        NoOp{"mul_one",
             [](SmallNet& n, ValueId x) {
               return n.op("Mul", {x, n.constant(at::ones({2, 1}))});
             },
             1},
        NoOp{"mul_one_unproven",
             [](SmallNet& n, ValueId x) {
               return n.op("Mul", {x, n.constant(at::ones({3, 1, 1}))});
             },
             0},
        NoOp{"div_one",
             [](SmallNet& n, ValueId x) {
               return n.op("Div", {x, n.number(1)});
             },
             1},
        NoOp{"one_over",
             [](SmallNet& n, ValueId x) {
               return n.op("Div", {n.number(1), x});
             },
             0},
        NoOp{"concat_one",
             [](SmallNet& n, ValueId x) {
               return n.op("Concat", {x}, {{"axis", int64_t{0}}});
             },
             1},
        NoOp{"slice_all",
             [](SmallNet& n, ValueId x) {
               return n.op("Slice", {x, n.ints({0, 0}), n.ints({INT64_MAX, 3}), n.ints({0, 2}),
                                     n.ints({1, 1})});
             },
             1},
        NoOp{"slice_some",
             [](SmallNet& n, ValueId x) {
               return n.op("Slice", {x, n.ints({0, 0}), n.ints({INT64_MAX, 2}), n.ints({0, 2}),
                                     n.ints({1, 1})});
             },
             0},
        NoOp{"slice_stepped",
             [](SmallNet& n, ValueId x) {
               return n.op("Slice", {x, n.ints({0}), n.ints({3}), n.ints({2}), n.ints({2})});
             },
             0}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(SimplifyTest, OutputsThatCannotTakeTheNameStay) {
  SmallNet net;
  const ValueId x = net.input("x", {2});
  const ValueId y = net.op("Sigmoid", {x});
  net.returns({net.op("Identity", {x}), y, net.op("Identity", {y})});
  Graph after = net.graph;
  EXPECT_EQ(graph::remove_no_ops(after), 0);
  expect_same_outputs(net.graph, after, 0);
}

TEST(SimplifyTest, MovementsCancelAndMerge) {
  const auto perm = [](std::vector<int64_t> p) { return test::Attributes{{"perm", std::move(p)}}; };
  SmallNet net;
  const ValueId x = net.op("Sigmoid", {net.input("x", {kBatch, 2, 1, 3})});
  const ValueId turned = net.op("Transpose", {x}, perm({0, 2, 3, 1}));
  const ValueId back = net.op("Transpose", {turned}, perm({0, 3, 1, 2}));
  const ValueId other = net.op("Transpose", {turned}, perm({1, 0, 2, 3}));
  const ValueId flat = net.op("Reshape", {x, net.ints({0, 6})});
  const ValueId unflat = net.op("Reshape", {flat, net.ints({-1, 2, 1, 3})});
  const ValueId regrouped = net.op("Reshape", {flat, net.ints({-1, 2})});
  const ValueId copying = net.op("Reshape", {flat, net.ints({0, 3, 2})});
  const ValueId squeezed = net.op("Squeeze", {x, net.ints({2})});
  const ValueId unsqueezed = net.op("Unsqueeze", {squeezed, net.ints({2})});
  std::vector<ValueId> outputs;
  for (const ValueId id : {back, other, unflat, regrouped, copying, unsqueezed})
    outputs.push_back(net.op("Sigmoid", {id}));
  net.returns(outputs);
  Graph after = net.graph;
  EXPECT_EQ(graph::merge_movement(after), 5);
  EXPECT_EQ(count(after, "Transpose"), 1);
  EXPECT_EQ(count(after, "Reshape"), 3);  // regrouped, and flat for the copying one
  EXPECT_EQ(count(after, "Squeeze") + count(after, "Unsqueeze"), 0);
  expect_same_outputs(net.graph, after, 0);
}

// Whatever the passes make of random networks, the outputs stay.
TEST(SimplifyTest, RandomNetworksKeepTheirOutputs) {
  int removed = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    uint64_t state = seed;
    const auto roll = [&](uint64_t sides) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      return static_cast<int64_t>((state >> 33) % sides);
    };
    SmallNet net;
    std::vector<ValueId> pool = {net.input("x", {kBatch, 4}), net.input("y", {kBatch, 4})};
    const auto pick = [&] { return pool[roll(pool.size())]; };
    for (int i = 0; i < 16; ++i) {
      const ValueId x = pick();
      switch (roll(9)) {
        case 0:
          pool.push_back(net.op("Add", {x, net.number(roll(2))}));
          break;
        case 1:
          pool.push_back(net.op("Mul", {x, net.number(roll(2))}));
          break;
        case 2:
          pool.push_back(net.op("Sub", {x, pick()}));
          break;
        case 3:
          pool.push_back(net.op("Sigmoid", {x}));
          break;
        case 4:
          pool.push_back(net.op("Identity", {x}));
          break;
        case 5:
          pool.push_back(net.op("Transpose", {net.op("Transpose", {x})}));
          break;
        case 6:
          pool.push_back(
              net.op("Reshape", {net.op("Reshape", {x, net.ints({-1, 2})}), net.ints({-1, 4})}));
          break;
        case 7:
          pool.push_back(
              net.op("MatMul", {x, net.op("Transpose", {net.constant(noise({4, 4}, roll(3)))})}));
          break;
        default:
          pool.push_back(net.op("Mul", {x, net.op("Add", {net.number(roll(2)), net.number(1)})}));
          break;
      }
    }
    net.returns({pool.back(), pool[pool.size() / 2]});
    if (pool.back() == net.graph.outputs[1]) continue;
    Graph after = net.graph;
    const auto report = graph::simplify(after, {.evaluate = evaluate_node});
    removed += report.nodes_before - report.nodes_after;
    EXPECT_EQ(report.nodes_after, static_cast<int>(after.nodes().size()));
    SCOPED_TRACE(seed);
    expect_same_outputs(net.graph, after, 0);
    EXPECT_EQ(graph::simplify(after, {.evaluate = evaluate_node}).nodes_after, report.nodes_after);
  }
  EXPECT_GT(removed, 300);
}

}  // namespace
}  // namespace packlight::exec

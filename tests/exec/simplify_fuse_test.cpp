#include <gtest/gtest.h>

#include <cmath>

#include "exec/small_net.h"
#include "graph/simplify/fuse_activations.h"
#include "graph/simplify/fuse_attention.h"
#include "graph/simplify/fuse_layer_norm.h"

namespace packlight::exec {
namespace {

using graph::Graph;
using graph::ValueId;
using test::count;
using test::expect_same_outputs;
using test::noise;
using test::SmallNet;

const std::string kBatch = "n";

// A pattern on x, the fused operator, and the pass that finds it.
struct Pattern {
  const char* name;
  const char* fused;  // "" when it must be left
  int (*pass)(Graph&);
  ValueId (*add)(SmallNet&, ValueId x);  // x: [n, 3, 8]
};

ValueId relu6(SmallNet& n, ValueId x, double shift) {
  return n.op("Clip", {n.op("Add", {x, n.number(shift)}), n.number(0), n.number(6)});
}
ValueId erf_gate(SmallNet& n, ValueId x) {
  return n.op("Add", {n.op("Erf", {n.op("Div", {x, n.number(1.4142135381698608)})}), n.number(1)});
}
ValueId tanh_gate(SmallNet& n, ValueId x, ValueId cube) {
  const ValueId term = n.op("Mul", {n.number(0.044715), cube});
  const ValueId inside = n.op("Mul", {n.op("Add", {x, term}), n.number(0.7978845608)});
  return n.op("Add", {n.number(1), n.op("Tanh", {inside})});
}
// Over the last `axes` dimensions; `power` squares by Pow.
ValueId layer_norm(SmallNet& n, ValueId x, std::vector<int64_t> axes, bool power) {
  const ValueId mean = n.op("ReduceMean", {x, n.ints(axes)});
  const ValueId d = n.op("Sub", {x, mean});
  const ValueId square = power ? n.op("Pow", {d, n.number(2)}) : n.op("Mul", {d, d});
  const ValueId variance = n.op("ReduceMean", {square, n.ints(axes)});
  return n.op("Div", {d, n.op("Sqrt", {n.op("Add", {variance, n.number(1e-5)})})});
}

const Pattern kPatterns[] = {
    {"hard_sigmoid", "HardSigmoid", graph::fuse_hard_sigmoid,
     [](SmallNet& n, ValueId x) {
       return n.op("Div", {relu6(n, x, 3), n.number(6)});
     }},
    {"hard_sigmoid_times", "HardSigmoid", graph::fuse_hard_sigmoid,
     [](SmallNet& n, ValueId x) {
       return n.op("Mul", {n.number(1 / 6.0), relu6(n, x, 2)});
     }},
    {"hard_sigmoid_other_slope", "", graph::fuse_hard_sigmoid,
     [](SmallNet& n, ValueId x) {
       return n.op("Div", {relu6(n, x, 3), n.number(5)});
     }},
    {"hard_swish_gated", "HardSwish", graph::fuse_hard_swish,
     [](SmallNet& n, ValueId x) {
       return n.op("Mul", {n.op("HardSigmoid", {x}, {{"alpha", 0.1666666716337204}}), x});
     }},
    {"hard_swish_other_gate", "", graph::fuse_hard_swish,
     [](SmallNet& n, ValueId x) {
       return n.op("Mul", {x, n.op("HardSigmoid", {x})});
     }},
    {"hard_swish_paddle", "HardSwish", graph::fuse_hard_swish,
     [](SmallNet& n, ValueId x) {
       return n.op("Div", {n.op("Mul", {x, relu6(n, x, 3)}), n.number(6)});
     }},
    {"hard_swish_other_divisor", "", graph::fuse_hard_swish,
     [](SmallNet& n, ValueId x) {
       return n.op("Div", {n.op("Mul", {x, relu6(n, x, 3)}), n.number(5)});
     }},
    {"hard_swish_other_input", "", graph::fuse_hard_swish,
     [](SmallNet& n, ValueId x) {
       return n.op("Div", {n.op("Mul", {x, relu6(n, n.op("Sigmoid", {x}), 3)}), n.number(6)});
     }},
    {"gelu_erf", "Gelu", graph::fuse_gelu,
     [](SmallNet& n, ValueId x) {
       return n.op("Mul", {n.op("Mul", {x, erf_gate(n, x)}), n.number(0.5)});
     }},
    {"gelu_erf_halved_first", "Gelu", graph::fuse_gelu,
     [](SmallNet& n, ValueId x) {
       return n.op("Mul", {erf_gate(n, x), n.op("Mul", {n.number(0.5), x})});
     }},
    {"gelu_without_half", "", graph::fuse_gelu,
     [](SmallNet& n, ValueId x) {
       return n.op("Mul", {x, erf_gate(n, x)});
     }},
    {"gelu_tanh", "Gelu", graph::fuse_gelu,
     [](SmallNet& n, ValueId x) {
       const ValueId gate = tanh_gate(n, x, n.op("Pow", {x, n.number(3)}));
       return n.op("Mul", {n.op("Mul", {n.number(0.5), x}), gate});
     }},
    {"gelu_tanh_products", "Gelu", graph::fuse_gelu,
     [](SmallNet& n, ValueId x) {
       const ValueId gate = tanh_gate(n, x, n.op("Mul", {x, n.op("Mul", {x, x})}));
       return n.op("Mul", {n.op("Mul", {x, gate}), n.number(0.5)});
     }},
    {"gelu_tanh_of_square", "", graph::fuse_gelu,
     [](SmallNet& n, ValueId x) {
       const ValueId gate = tanh_gate(n, x, n.op("Mul", {x, x}));
       return n.op("Mul", {n.op("Mul", {x, gate}), n.number(0.5)});
     }},
    {"layer_norm", "LayerNormalization", graph::fuse_layer_norm,
     [](SmallNet& n, ValueId x) {
       const ValueId scaled =
           n.op("Mul", {layer_norm(n, x, {-1}, true), n.constant(noise({8}, 1))});
       return n.op("Add", {scaled, n.constant(noise({8}, 2))});
     }},
    {"layer_norm_bare", "LayerNormalization", graph::fuse_layer_norm,
     [](SmallNet& n, ValueId x) { return layer_norm(n, x, {2}, false); }},
    {"layer_norm_of_two", "LayerNormalization", graph::fuse_layer_norm,
     [](SmallNet& n, ValueId x) {
       return n.op("Mul", {n.constant(noise({3, 8}, 1)), layer_norm(n, x, {1, 2}, true)});
     }},
    {"layer_norm_inner_axis", "", graph::fuse_layer_norm,
     [](SmallNet& n, ValueId x) { return layer_norm(n, x, {1}, true); }},
};

void expect_fused(const SmallNet& net, const Pattern& pattern, int roundings) {
  Graph after = net.graph;
  const std::string fused = pattern.fused;
  EXPECT_EQ(pattern.pass(after), fused.empty() ? 0 : 1);
  if (!fused.empty()) {
    EXPECT_EQ(count(after, fused), 1);
    EXPECT_LT(after.nodes().size(), net.graph.nodes().size());
  }
  graph::infer_shapes(after);
  expect_same_outputs(net.graph, after, roundings);
}

class FusionTest : public ::testing::TestWithParam<Pattern> {};

TEST_P(FusionTest, FusesAndKeepsTheOutputs) {
  SmallNet net;
  const ValueId x = net.op("Mul", {net.input("x", {kBatch, 3, 8}), net.number(4)});
  const ValueId y = GetParam().add(net, x);
  net.returns({net.op("Sigmoid", {y}), y});
  // Ten or so operators of one to four roundings, and sums of 24.
  expect_fused(net, GetParam(), 100);
}

// Every value in between is needed elsewhere, one at a time: nothing may be fused that goes through
// it, and the outputs stay.
TEST_P(FusionTest, ValuesThatOthersUseStay) {
  SmallNet whole;
  const ValueId x = whole.op("Mul", {whole.input("x", {kBatch, 3, 8}), whole.number(4)});
  const ValueId y = GetParam().add(whole, x);
  for (size_t i = 1; i + 1 < whole.graph.nodes().size(); ++i) {
    SmallNet net = whole;
    const ValueId between = net.graph.node(i).outputs[0];
    net.returns({y, between});
    Graph after = net.graph;
    GetParam().pass(after);
    graph::infer_shapes(after);
    SCOPED_TRACE(net.graph.node(i).name);
    expect_same_outputs(net.graph, after, 100);
  }
}

INSTANTIATE_TEST_SUITE_P(Fusions, FusionTest, ::testing::ValuesIn(kPatterns),
                         [](const auto& info) { return std::string(info.param.name); });

struct AttentionCase {
  const char* name;
  bool fuses;
  // q, k, v: [n, 2, 5, 4]
  ValueId (*add)(SmallNet&, ValueId q, ValueId k, ValueId v);
};

ValueId transposed(SmallNet& n, ValueId k, std::vector<int64_t> perm) {
  return n.op("Transpose", {k}, {{"perm", std::move(perm)}});
}
ValueId weighted(SmallNet& n, ValueId scores, ValueId v, int64_t axis = -1) {
  return n.op("MatMul", {n.op("Softmax", {scores}, {{"axis", axis}}), v});
}

const AttentionCase kAttention[] = {
    {"scaled_query", true,
     [](SmallNet& n, ValueId q, ValueId k, ValueId v) {
       const ValueId scaled = n.op("Mul", {q, n.constant(at::full({1}, 0.25f))});
       return weighted(n, n.op("MatMul", {scaled, transposed(n, k, {0, 1, 3, 2})}), v, 3);
     }},
    {"scaled_scores", true,
     [](SmallNet& n, ValueId q, ValueId k, ValueId v) {
       const ValueId scores = n.op("MatMul", {q, transposed(n, k, {0, 1, 3, 2})});
       return weighted(n, n.op("Div", {scores, n.number(2)}), v);
     }},
    {"scaled_both", true,
     [](SmallNet& n, ValueId q, ValueId k, ValueId v) {
       const ValueId left = n.op("Mul", {q, n.number(0.5)});
       const ValueId right = n.op("Mul", {transposed(n, k, {0, 1, 3, 2}), n.number(0.5)});
       return weighted(n, n.op("MatMul", {left, right}), v);
     }},
    {"keys_from_sequence_major", true,
     [](SmallNet& n, ValueId q, ValueId k, ValueId v) {
       const ValueId by_sequence = n.op("Sigmoid", {transposed(n, k, {0, 2, 1, 3})});
       return weighted(n, n.op("MatMul", {q, transposed(n, by_sequence, {0, 2, 3, 1})}), v);
     }},
    {"masked", true,
     [](SmallNet& n, ValueId q, ValueId k, ValueId v) {
       const ValueId scores = n.op("MatMul", {q, transposed(n, k, {0, 1, 3, 2})});
       const ValueId mask = n.constant(noise({5, 5}, 3));
       return weighted(n, n.op("Add", {n.op("Mul", {scores, n.number(0.5)}), mask}), v);
     }},
    {"softmax_over_queries", false,
     [](SmallNet& n, ValueId q, ValueId k, ValueId v) {
       return weighted(n, n.op("MatMul", {q, transposed(n, k, {0, 1, 3, 2})}), v, 2);
     }},
    {"shared_keys", false,  // one head of keys for two of queries: MatMul broadcasts
     [](SmallNet& n, ValueId q, ValueId k, ValueId v) {
       const ValueId one = n.op("Slice", {k, n.ints({0}), n.ints({1}), n.ints({1})});
       return weighted(n, n.op("MatMul", {q, transposed(n, one, {0, 1, 3, 2})}), v);
     }},
};

class AttentionFusionTest : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionFusionTest, FusesAndKeepsTheOutputs) {
  SmallNet net;
  const graph::Shape shape = {kBatch, 2, 5, 4};
  const ValueId q = net.input("q", shape), k = net.input("k", shape), v = net.input("v", shape);
  net.returns({GetParam().add(net, q, k, v)});
  Graph after = net.graph;
  EXPECT_EQ(graph::fuse_attention(after), GetParam().fuses ? 1 : 0);
  EXPECT_EQ(count(after, "Softmax"), GetParam().fuses ? 0 : 1);
  graph::infer_shapes(after);
  expect_same_outputs(net.graph, after, 60);  // sums of 4 and 5, exp, a quotient
}

INSTANTIATE_TEST_SUITE_P(Forms, AttentionFusionTest, ::testing::ValuesIn(kAttention),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace packlight::exec

#include "exec/executor.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>

#include "codec/ggml_blocks.h"
#include "codec/tile.h"
#include "exec/dense_weight.h"
#include "exec/tensor_compare.h"
#include "graph/error_of.h"

namespace packlight::exec {
namespace {

using graph::ElementType;
using graph::Graph;
using graph::ValueId;
using test::close;
using test::contains;
using test::error_of;
using test::integers;
using test::noise;
using test::tensor;

// Two blocks: h = E[ids]; y = (h A^T) B^T. E is encoded, A dense F16, B dense F32.
struct TwoBlocks {
  Graph graph;
  ValueId ids, e, a, b, h, z;
  at::Tensor dense_e, dense_a, dense_b;

  TwoBlocks() {
    codec::QuantizedMatrix m{6, 32, 8, 32, {}, {}, {}};
    for (int i = 0; i < 6 * 32; ++i) m.codes.push_back(static_cast<int8_t>(i * 37 % 255 - 127));
    m.scales.assign(6, 0x2c00);  // 1/16
    const codec::EncodedTensor encoded = codec::pack(m);
    dense_e = at::empty({6, 32});
    for (int i = 0; i < 6 * 32; ++i) dense_e.data_ptr<float>()[i] = m.codes[i] / 16.f;
    dense_a = noise({4, 32}, 1).to(at::kHalf).to(at::kFloat);
    dense_b = noise({3, 4}, 2);
    ids = graph.add_input("ids", ElementType::kI64, {std::string("n")});
    e = graph.add_weight("e", encoded);
    a = graph.add_weight("a", dense_a.to(at::kHalf));
    b = graph.add_weight("b", dense_b);
    h = graph.add_node("Gather", "embed", {e, ids}, {"h"}, {}, "one")[0];
    const ValueId at_ = graph.add_node("Transpose", "at", {a}, {"at"}, {}, "one")[0];
    z = graph.add_node("MatMul", "fa", {h, at_}, {"z"}, {}, "one")[0];
    const ValueId bt = graph.add_node("Transpose", "bt", {b}, {"bt"}, {}, "two")[0];
    graph.outputs = graph.add_node("MatMul", "fb", {z, bt}, {"y"}, {}, "two");
    graph::verify(graph);
    graph::infer_shapes(graph);
  }
  at::Tensor want(const at::Tensor& rows) const {
    return at::matmul(at::matmul(at::index_select(dense_e, 0, rows), dense_a.t()), dense_b.t());
  }
};

TEST(ExecutorTest, RunsWeightsOfEveryStorage) {
  const TwoBlocks net;
  const at::Tensor ids = integers({5, 0, 3}, {3});
  for (const bool cache : {true, false}) {
    ExecOptions options;
    options.cache_weights = cache;
    Executor executor(net.graph, options);
    EXPECT_TRUE(close(executor.run({{"ids", ids}}).at("y"), net.want(ids), 0));
    EXPECT_TRUE(close(executor.run({{"ids", ids}}).at("y"), net.want(ids), 0));
  }
}

TEST(ExecutorTest, BlockByBlockKeepsOnlyWhatIsNeeded) {
  const TwoBlocks net;
  Executor executor(net.graph);
  Values live{{net.ids, integers({1, 2}, {2})}};
  executor.run_nodes(0, 3, live);
  ASSERT_EQ(live.size(), 1u);  // ids, h and the turned weight are gone
  EXPECT_TRUE(live.count(net.z));
  executor.release_weights(0, 3);
  executor.run_nodes(3, 5, live);
  ASSERT_EQ(live.size(), 1u);
  EXPECT_TRUE(close(live.at(net.graph.outputs[0]), net.want(integers({1, 2}, {2})), 0));
  live = {{net.ids, integers({1, 2}, {2})}};  // released weights come back
  executor.run_nodes(0, 5, live);
  EXPECT_TRUE(close(live.at(net.graph.outputs[0]), net.want(integers({1, 2}, {2})), 0));
}

TEST(ExecutorTest, ObserverSeesInputsBeforeTheyAreRounded) {
  TwoBlocks net;
  net.graph.node(2).input_quant = graph::ActivationQuant::kInt8PerToken32;
  Executor executor(net.graph);
  std::vector<std::string> seen;
  at::Tensor captured;
  const at::Tensor ids = integers({4}, {1});
  const auto out = executor.run({{"ids", ids}},
                                [&](const graph::Node& node, std::span<const at::Tensor> inputs) {
                                  seen.push_back(node.name);
                                  if (node.name == "fa") captured = inputs[0];
                                });
  EXPECT_EQ(seen, (std::vector<std::string>{"embed", "at", "fa", "bt", "fb"}));
  const at::Tensor h = at::index_select(net.dense_e, 0, ids);
  EXPECT_TRUE(close(captured, h, 0));
  // The largest code of the row need not be 127, so rounding shows in the output.
  EXPECT_GT((out.at("y") - net.want(ids)).abs().max().item<double>(), 0);
}

TEST(ExecutorTest, ParameterReplacesTheWeightAndGetsGradients) {
  const TwoBlocks net;
  ExecOptions options;
  options.gradients = true;
  Executor executor(net.graph, options);
  at::Tensor parameter = at::ones({3, 4}).requires_grad_(true);
  executor.set_parameter(net.b, parameter);
  at::Tensor table = net.dense_e.clone().requires_grad_(true);
  executor.set_parameter(net.e, table);
  const at::Tensor ids = integers({2, 2}, {2});
  executor.run({{"ids", ids}}).at("y").sum().backward();
  const at::Tensor z = at::matmul(at::index_select(net.dense_e, 0, ids), net.dense_a.t());
  EXPECT_TRUE(close(parameter.grad(), z.sum(0).expand({3, 4}), 32 * 32 * 8 * 0x1p-23));
  EXPECT_EQ(table.grad()[1].abs().sum().item<float>(), 0);
  EXPECT_NE(table.grad()[2].abs().sum().item<float>(), 0);
  EXPECT_TRUE(contains(error_of([&] {
                         executor.set_parameter(net.b, at::ones({4, 3}));
                       }),
                       "another shape"));
  EXPECT_TRUE(contains(error_of([&] { executor.set_parameter(net.h, at::ones({1})); }),
                       "'h' is no weight"));
}

TEST(ExecutorTest, NoGraphIsRecordedWithoutGradients) {
  const TwoBlocks net;
  Executor executor(net.graph);
  executor.set_parameter(net.b, at::ones({3, 4}).requires_grad_(true));
  EXPECT_FALSE(executor.run({{"ids", integers({0}, {1})}}).at("y").requires_grad());
}

TEST(ExecutorTest, ErrorsNameTheNode) {
  const TwoBlocks net;
  Executor executor(net.graph);
  EXPECT_TRUE(contains(error_of([&] { executor.run({}); }), "input 'ids' is missing"));
  EXPECT_TRUE(contains(error_of([&] {
                         executor.run({{"ids", integers({0}, {1})}, {"q", at::ones({1})}});
                       }),
                       "no input 'q'"));
  EXPECT_TRUE(contains(error_of([&] {
                         executor.run({{"ids", integers({6}, {1})}});
                       }),
                       "[exec] node 'embed' (Gather): index 6 is outside [-6, 6)"));
  Values live;
  EXPECT_TRUE(contains(error_of([&] { executor.run_nodes(3, 5, live); }),
                       "node 'fb': its input 'z' is not among"));
  EXPECT_TRUE(
      contains(error_of([&] { executor.run_nodes(3, 6, live); }), "outside the graph's 5 nodes"));
  live = {{net.z, at::ones({2, 7})}};
  EXPECT_TRUE(
      contains(error_of([&] { executor.run_nodes(3, 5, live); }), "[exec] node 'fb' (MatMul)"));
  Graph unknown;
  unknown.outputs = unknown.add_node("Frobnicate", "f", {}, {"y"}, {}, "");
  EXPECT_TRUE(
      contains(error_of([&] { Executor e(unknown); }), "operator 'Frobnicate' is not implemented"));
}

// As the body declares it, dimensions that are not known 0.
TEST(ExecutorTest, ALoopThatNeverRunsScansNothing) {
  for (const bool declared : {true, false}) {
    auto body = std::make_shared<Graph>();
    body->add_input("i", ElementType::kI64, {});
    const ValueId go_on = body->add_input("go_on", ElementType::kBool, {}),
                  x = body->add_input("x", ElementType::kF32, {std::string("n"), 3});
    const ValueId y = body->add_node("Relu", "relu", {x}, {"y"}, {}, "")[0];
    body->value(y).type = ElementType::kF32;
    if (declared) body->value(y).shape = graph::Shape{std::string("n"), 3};
    body->outputs = {go_on, y};
    Graph net;
    const ValueId trips = net.add_input("trips", ElementType::kI64, {}),
                  outer = net.add_input("x", ElementType::kF32, {std::string("n"), 3});
    net.outputs =
        net.add_node("Loop", "loop", {trips, graph::kNone, outer}, {"all"}, {{"body", body}}, "");
    net.node(0).captures = 1;
    Executor executor(net);
    const auto run = [&] {
      return executor.run({{"trips", at::scalar_tensor(0, at::kLong)}, {"x", at::ones({2, 3})}});
    };
    if (declared)
      EXPECT_EQ(run().at("all").sizes(), (at::IntArrayRef{0, 0, 3}));
    else
      EXPECT_TRUE(contains(error_of(run), "'y'"));
  }
}

TEST(DenseWeightTest, DecodesInParallelAndKeepsIntegers) {
  const at::Tensor values = noise({70, 64}, 3);
  const auto blocks =
      codec::encode_ggml_rows(codec::DType::kQ8_0, {values.data_ptr<float>(), 70 * 64}, 64);
  codec::EncodedTensor encoded;
  encoded.dtype = codec::DType::kQ8_0;
  encoded.rows = 70, encoded.cols = 64;
  encoded.data = blocks;
  at::Tensor want = at::empty({70, 64});
  codec::decode_rows(encoded, 0, 70, want.data_ptr<float>());
  EXPECT_TRUE(close(dense_weight(encoded), want, 0));
  EXPECT_EQ(dense_weight(at::ones({2}, at::kLong)).scalar_type(), at::kLong);
  EXPECT_EQ(dense_weight(at::ones({2}, at::kBFloat16)).scalar_type(), at::kFloat);
}

TEST(DenseWeightTest, DenseF32IsAView) {
  const at::Tensor values = noise({3, 4}, 3);
  codec::EncodedTensor encoded;
  encoded.rows = 3, encoded.cols = 4;
  encoded.data = {reinterpret_cast<const std::byte*>(values.data_ptr()), values.nbytes()};
  EXPECT_EQ(dense_weight(encoded).data_ptr(), values.data_ptr());
}

TEST(CheckFiniteTest, NamesTensorAndElement) {
  TwoBlocks net;
  net.graph.origin = "net.gguf";
  EXPECT_EQ(error_of([&] { check_finite(net.graph, 0, 5); }), "");
  at::Tensor bad = net.dense_b.clone();
  bad[1][2] = std::numeric_limits<float>::quiet_NaN();
  net.graph.value(net.b).weight = bad;
  EXPECT_EQ(error_of([&] { check_finite(net.graph, 0, 3); }), "");
  EXPECT_TRUE(contains(error_of([&] { check_finite(net.graph, 3, 5); }),
                       "Corrupt: [exec] 'net.gguf': tensor 'b': element 6 is nan"));
}

TEST(InitialiseTest, SetsThreadsAndChecksTheProduct) {
  EXPECT_EQ(error_of([] { initialise(2); }), "");
  EXPECT_EQ(at::get_num_threads(), 2);
  EXPECT_TRUE(contains(error_of([] { initialise(-1); }), "InvalidArgument"));
}

}  // namespace
}  // namespace packlight::exec

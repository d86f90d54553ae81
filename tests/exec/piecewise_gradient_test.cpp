#include "exec/piecewise_gradient.h"

#include <gtest/gtest.h>

#include <map>

#include "exec/small_net.h"

namespace packlight::exec {
namespace {

using graph::ValueId;
using test::noise;
using test::SmallNet;

// Residual blocks x + b tanh(a x), of which one reads what the first made, too.
struct DeepNet : SmallNet {
  std::vector<ValueId> weights;
  std::vector<graph::NodeId> readers;  // the second product of each block
  DeepNet() {
    ValueId x = input("x", {std::string("n"), 5});
    ValueId early = graph::kNone;
    for (int block = 0; block < 6; ++block) {
      weights.push_back(constant(noise({5, 7}, 2 * block + 1)));
      weights.push_back(constant(noise({7, 5}, 2 * block + 2)));
      ValueId y = op("MatMul",
                     {op("Tanh", {op("MatMul", {x, weights[2 * block]})}), weights[2 * block + 1]});
      readers.push_back(graph.value(y).producer);
      if (block == 0) early = y;
      if (block == 4) y = op("Mul", {y, early});
      x = op("Add", {x, y});
    }
    returns({x});
  }
};

at::Tensor square_loss(const at::Tensor& y) { return y.square().sum(); }

// The gradients of all weights, of the loss and of what each reader's outputs get.
struct Result {
  double loss;
  std::vector<at::Tensor> weights;
  std::map<graph::NodeId, at::Tensor> outputs, inputs;
};

Result gradients(const DeepNet& net, int64_t pieces, const at::Tensor& x) {
  Executor executor(net.graph);
  std::vector<at::Tensor> leaves;
  for (const ValueId id : net.weights) {
    leaves.push_back(dense_weight(*net.graph.value(id).weight).clone().requires_grad_(true));
    executor.set_parameter(id, leaves.back());
  }
  PiecewiseGradient pass(net.graph, executor, net.graph.outputs[0], pieces);
  Result result;
  for (const graph::NodeId id : net.readers)
    pass.watch(id, [&result, id](const at::Tensor& input, const at::Tensor& gradient) {
      EXPECT_FALSE(result.outputs.contains(id)) << "seen once";
      result.inputs[id] = input;
      result.outputs[id] = gradient;
    });
  result.loss = pass.run({{net.graph.inputs[0], x}}, square_loss);
  for (const at::Tensor& leaf : leaves) result.weights.push_back(leaf.grad());
  return result;
}

TEST(PiecewiseGradient, PiecesChangeNothing) {
  const DeepNet net;
  const at::Tensor x = noise({3, 5}, 50) * 0.3;
  const Result whole = gradients(net, 1, x);
  for (const int64_t pieces : {2, 3, 6, 100}) {
    const Result result = gradients(net, pieces, x);
    EXPECT_NEAR(result.loss, whole.loss, 1e-4 * whole.loss);
    for (size_t i = 0; i < whole.weights.size(); ++i)
      EXPECT_TRUE(at::allclose(result.weights[i], whole.weights[i], 1e-4, 1e-5))
          << pieces << " " << i;
    ASSERT_EQ(result.outputs.size(), net.readers.size());
    for (const auto& [id, gradient] : whole.outputs) {
      EXPECT_TRUE(at::allclose(result.outputs.at(id), gradient, 1e-4, 1e-5)) << pieces << " " << id;
      // dL/dw = x^T dL/dy
      const size_t block =
          std::find(net.readers.begin(), net.readers.end(), id) - net.readers.begin();
      EXPECT_TRUE(at::allclose(result.inputs.at(id).t().mm(gradient), whole.weights[2 * block + 1],
                               1e-4, 1e-4));
    }
  }
}

TEST(PiecewiseGradient, AgreesWithDifferences) {
  DeepNet net;
  const at::Tensor x = noise({3, 5}, 50) * 0.3;
  const Result result = gradients(net, 4, x);
  const auto loss = [&](double step) {
    Executor executor(net.graph);
    at::Tensor w = dense_weight(*net.graph.value(net.weights[3]).weight).clone();
    w[2][1] += step;
    executor.set_parameter(net.weights[3], w);
    return square_loss(executor.run({{"x", x}}).begin()->second).item<double>();
  };
  const double slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
  EXPECT_NEAR(result.weights[3][2][1].item<double>(), slope, 0.01 * std::abs(slope));
}

// Without any parameter that asks for gradients, the outputs that are watched still get theirs.
TEST(PiecewiseGradient, NeedsNoParameters) {
  const DeepNet net;
  Executor executor(net.graph);
  PiecewiseGradient pass(net.graph, executor, net.graph.outputs[0], 3);
  EXPECT_GE(pass.pieces(), 3);
  int seen = 0;
  for (const graph::NodeId id : net.readers)
    pass.watch(id, [&](const at::Tensor&, const at::Tensor& gradient) {
      EXPECT_GT(gradient.abs().max().item<double>(), 0);
      ++seen;
    });
  pass.run({{net.graph.inputs[0], noise({3, 5}, 50)}}, square_loss);
  EXPECT_EQ(seen, 6);
}

}  // namespace
}  // namespace packlight::exec

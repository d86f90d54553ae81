#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "exec/operators.h"
#include "exec/tensor_compare.h"
#include "graph/error_of.h"
#include "graph/weight.h"

namespace packlight::exec {
namespace {

using test::close;
using test::contains;
using test::error_of;
using test::integers;
using test::tensor;
using Attributes = std::map<std::string, graph::Attribute>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kStep = 0x1p-24;  // the rounding of a number below one

std::vector<at::Tensor> run_all(const char* op, std::vector<at::Tensor> inputs,
                                Attributes attributes = {}, ExecOptions options = {}) {
  graph::Node node;
  node.name = "node";
  node.op = op;
  node.attributes = std::move(attributes);
  node.outputs.resize(1);
  return find_operator(op, "")(Call{node, inputs, options});
}
at::Tensor run(const char* op, std::vector<at::Tensor> inputs, Attributes attributes = {}) {
  return run_all(op, std::move(inputs), std::move(attributes)).at(0);
}

// The gradient of the sum of the first output by the first input.
at::Tensor gradient(const char* op, const at::Tensor& x, std::vector<at::Tensor> others = {},
                    Attributes attributes = {}) {
  at::Tensor leaf = x.clone().set_requires_grad(true);
  others.insert(others.begin(), leaf);
  run(op, others, std::move(attributes)).sum().backward();
  return leaf.grad();
}

TEST(ElementwiseTest, GradientsPass) {
  const at::Tensor x = tensor({-2, 0.5, 3}, {3});
  EXPECT_TRUE(close(gradient("Relu", x), tensor({0, 1, 1}, {3}), 0));
  EXPECT_TRUE(close(gradient("LeakyRelu", x, {}, {{"alpha", 0.25}}), tensor({.25, 1, 1}, {3}), 0));
  EXPECT_TRUE(close(gradient("PRelu", x, {tensor({.5, .5, .5}, {3})}), tensor({.5, 1, 1}, {3}), 0));
  EXPECT_TRUE(close(gradient("HardSigmoid", x, {}, {{"alpha", 0.25}, {"beta", 0.5}}),
                    tensor({.25, .25, 0}, {3}), 0));
  EXPECT_TRUE(
      close(gradient("Clip", x, {tensor({-1}, {}), tensor({1}, {})}), tensor({0, 1, 0}, {3}), 0));
  EXPECT_TRUE(close(gradient("Pow", x, {integers({2}, {})}), tensor({-4, 1, 6}, {3}), 0));
}

TEST(ElementwiseTest, PreluRefusesASlopeWiderThanItsInput) {
  EXPECT_TRUE(contains(error_of([] {
                         run("PRelu", {tensor({1}, {1}), tensor({1, 2}, {2})});
                       }),
                       "does not broadcast"));
}

TEST(ElementwiseTest, IntegerDivisionWrapsWhereProcessorsTrap) {
  constexpr int64_t kSmallest = std::numeric_limits<int64_t>::min();
  const at::Tensor a = integers({kSmallest, 7, -7}, {3}), b = integers({-1, -1, 2}, {3});
  EXPECT_TRUE(at::equal(run("Div", {a, b}), integers({kSmallest, -7, -3}, {3})));
  EXPECT_TRUE(at::equal(run("Mod", {a, b}), integers({0, 0, 1}, {3})));
  EXPECT_TRUE(at::equal(run("Mod", {a, b}, {{"fmod", int64_t{1}}}), integers({0, 0, -1}, {3})));
  EXPECT_THROW(run("Div", {a, integers({0}, {1})}), c10::Error);
  EXPECT_THROW(run("Mod", {a, integers({0}, {1})}), c10::Error);
  const at::Tensor bytes = integers({255}, {1}).to(at::kByte);
  EXPECT_TRUE(at::equal(run("Div", {bytes, bytes}), integers({1}, {1}).to(at::kByte)));
}

TEST(ElementwiseTest, CastOfWhatDoesNotFit) {
  const at::Tensor x = tensor({kNan, kInfinity, -kInfinity, 3e9f, 1e20f, -1.5f, 300.9f}, {7});
  const auto to = [&](graph::ElementType type) {
    return run("Cast", {x}, {{"to", graph::to_onnx_type(type)}}).to(at::kLong);
  };
  constexpr int64_t kSmallest = std::numeric_limits<int64_t>::min(), kSmall = -(int64_t{1} << 31);
  EXPECT_TRUE(
      at::equal(to(graph::ElementType::kI64),
                integers({kSmallest, kSmallest, kSmallest, 3000000000, kSmallest, -1, 300}, {7})));
  EXPECT_TRUE(at::equal(to(graph::ElementType::kI32),
                        integers({kSmall, kSmall, kSmall, kSmall, kSmall, -1, 300}, {7})));
  EXPECT_TRUE(at::equal(to(graph::ElementType::kU8), integers({0, 0, 0, 0, 0, 255, 44}, {7})));
  EXPECT_TRUE(at::equal(to(graph::ElementType::kI8), integers({0, 0, 0, 0, 0, -1, 44}, {7})));
  EXPECT_TRUE(at::equal(to(graph::ElementType::kBool), integers({1, 1, 1, 1, 1, 1, 1}, {7})));
}

TEST(ElementwiseTest, CastLikeKnowsNoOtherFloatThanF32) {
  const at::Tensor x = integers({3}, {1});
  EXPECT_EQ(run("CastLike", {x, at::zeros({1}, at::kHalf)}).scalar_type(), at::kFloat);
  EXPECT_EQ(run("CastLike", {x, at::zeros({1}, at::kChar)}).scalar_type(), at::kChar);
}

TEST(ElementwiseTest, PowHasTheTypeOfItsBase) {
  const at::Tensor roots = run("Pow", {integers({9, 16}, {2}), tensor({0.5}, {1})});
  EXPECT_TRUE(at::equal(roots, integers({3, 4}, {2})));
}

TEST(ElementwiseTest, IsInfDetectsWhatItIsAskedFor) {
  const at::Tensor x = tensor({-kInfinity, 0, kInfinity}, {3});
  const Attributes none{{"detect_negative", int64_t{0}}, {"detect_positive", int64_t{0}}};
  EXPECT_EQ(run("IsInf", {x}).to(at::kLong).sum().item<int64_t>(), 2);
  EXPECT_TRUE(run("IsInf", {x}, {{"detect_negative", int64_t{0}}})[2].item<bool>());
  EXPECT_EQ(run("IsInf", {x}, none).to(at::kLong).sum().item<int64_t>(), 0);
}

TEST(ElementwiseTest, VariadicInputsMustBeThere) {
  const at::Tensor x = tensor({1}, {1});
  EXPECT_TRUE(contains(error_of([&] { run("Max", {x, at::Tensor(), x}); }), "input 1 is absent"));
}

TEST(ElementwiseTest, DropoutInTrainingDropsAndScales) {
  const at::Tensor x = at::ones({10000}), ratio = tensor({0.25}, {});
  const ExecOptions training{.training = true};
  const auto out = run_all("Dropout", {x, ratio}, {{"seed", int64_t{7}}}, training);
  const at::Tensor &y = out.at(0), &mask = out.at(1);
  EXPECT_TRUE(close(y, mask.to(at::kFloat) / 0.75, kStep * 2));
  // Binomial: five standard deviations of sqrt(0.25 * 0.75 / 10000).
  EXPECT_NEAR(mask.to(at::kFloat).mean().item<double>(), 0.75, 5 * 0.00433);
  const auto again = run_all("Dropout", {x, ratio}, {{"seed", int64_t{7}}}, training);
  EXPECT_TRUE(at::equal(again.at(1), mask));
  const auto other = run_all("Dropout", {x, ratio}, {{"seed", int64_t{8}}}, training);
  EXPECT_FALSE(at::equal(other.at(1), mask));
  const at::Tensor asked = at::scalar_tensor(true, at::kBool);
  EXPECT_LT(run_all("Dropout", {x, ratio, asked}).at(1).to(at::kLong).sum().item<int64_t>(), 10000);
}

TEST(ElementwiseTest, DropoutInInferenceIsTheIdentity) {
  const at::Tensor x = tensor({1, 2}, {2});
  const auto out = run_all("Dropout", {x});
  EXPECT_TRUE(at::equal(out.at(0), x));
  EXPECT_TRUE(at::equal(out.at(1), at::ones({2}, at::kBool)));
  EXPECT_TRUE(contains(error_of([&] { run("Dropout", {x, tensor({1}, {})}); }), "not in [0, 1)"));
}

TEST(ElementwiseTest, DropoutPassesTheGradientOfWhatItKeeps) {
  const at::Tensor x = at::zeros({100}).set_requires_grad(true);
  const auto out = run_all("Dropout", {x}, {{"seed", int64_t{1}}}, {.training = true});
  out.at(0).sum().backward();
  EXPECT_TRUE(close(x.grad(), out.at(1).to(at::kFloat) * 2, 0));
}

}  // namespace
}  // namespace packlight::exec

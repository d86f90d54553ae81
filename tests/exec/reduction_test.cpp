#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "exec/operators.h"
#include "exec/tensor_compare.h"
#include "graph/error_of.h"

namespace packlight::exec {
namespace {

using test::close;
using test::contains;
using test::error_of;
using test::integers;
using test::tensor;
using Attributes = std::map<std::string, graph::Attribute>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<at::Tensor> run_all(const char* op, std::vector<at::Tensor> inputs,
                                Attributes attributes = {}) {
  graph::Node node;
  node.name = "node";
  node.op = op;
  node.attributes = std::move(attributes);
  node.outputs.resize(1);
  const ExecOptions options;
  return find_operator(op, "")(Call{node, inputs, options});
}
at::Tensor run(const char* op, std::vector<at::Tensor> inputs, Attributes attributes = {}) {
  return run_all(op, std::move(inputs), std::move(attributes)).at(0);
}

const Attributes kNoop{{"noop_with_empty_axes", int64_t{1}}};
const Attributes kDrop{{"keepdims", int64_t{0}}};

TEST(ReductionTest, OverNoAxesEachElementIsReducedByItself) {
  const at::Tensor x = tensor({-2, 3}, {1, 2});
  EXPECT_TRUE(close(run("ReduceSum", {x}, kNoop), x, 0));
  EXPECT_TRUE(close(run("ReduceSumSquare", {x}, kNoop), tensor({4, 9}, {1, 2}), 0));
  EXPECT_TRUE(close(run("ReduceL1", {x}, kNoop), tensor({2, 3}, {1, 2}), 0));
  EXPECT_TRUE(close(run("ReduceMax", {x}, kNoop), x, 0));
  EXPECT_TRUE(close(run("ReduceProd", {tensor({5}, {})}), tensor({5}, {}), 0));  // rank 0
}

TEST(ReductionTest, SeveralAxesInAnyOrder) {
  const at::Tensor x = tensor({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2});
  EXPECT_TRUE(
      close(run("ReduceProd", {x, integers({-1, 0}, {2})}, kDrop), tensor({60, 672}, {2}), 0));
  EXPECT_TRUE(
      close(run("ReduceMean", {x, integers({2, 0}, {2})}), tensor({3.5, 5.5}, {1, 2, 1}), 0));
  EXPECT_TRUE(contains(error_of([&] {
                         run("ReduceSum", {x, integers({0, -3}, {2})});
                       }),
                       "given twice"));
  EXPECT_TRUE(contains(error_of([&] {
                         run("ReduceSum", {x, integers({3}, {1})});
                       }),
                       "axis 3 is outside"));
}

TEST(ReductionTest, IntegersKeepTheirType) {
  const at::Tensor x = integers({3, 4}, {2}).to(at::kInt);
  for (const char* op : {"ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceProd",
                         "ReduceMax", "ReduceSumSquare", "ReduceLogSum"}) {
    EXPECT_EQ(run(op, {x}).scalar_type(), at::kInt) << op;
  }
  EXPECT_EQ(run("ReduceL2", {x}).item<int>(), 5);
  EXPECT_EQ(run("ReduceMean", {x}).item<int>(), 3);
}

TEST(ReductionTest, ExtremesOfNothing) {
  const at::Tensor none = at::zeros({2, 0});
  const at::Tensor axis = integers({1}, {1});
  EXPECT_TRUE(at::equal(run("ReduceMax", {none, axis}, kDrop), at::full({2}, -kInfinity)));
  EXPECT_TRUE(at::equal(run("ReduceMin", {none.to(at::kInt), axis}, kDrop),
                        at::full({2}, std::numeric_limits<int>::max(), at::kInt)));
  EXPECT_TRUE(at::equal(run("ReduceMin", {none.to(at::kLong), axis}, kDrop),
                        at::full({2}, std::numeric_limits<int64_t>::max(), at::kLong)));
  EXPECT_TRUE(
      at::equal(run("ReduceMin", {none.to(at::kBool), axis}, kDrop), at::ones({2}, at::kBool)));
}

TEST(ReductionTest, GradientsPass) {
  const auto gradient = [](const char* op, at::Tensor x) {
    x.set_requires_grad(true);
    run(op, {x}, kDrop).backward();
    return x.grad();
  };
  EXPECT_TRUE(close(gradient("ReduceMean", tensor({1, 3}, {2})), tensor({.5, .5}, {2}), 0));
  EXPECT_TRUE(close(gradient("ReduceMax", tensor({1, 3}, {2})), tensor({0, 1}, {2}), 0));
  EXPECT_TRUE(close(gradient("ReduceProd", tensor({2, 3}, {2})), tensor({3, 2}, {2}), 0));
  EXPECT_TRUE(close(gradient("ReduceSumSquare", tensor({2, 3}, {2})), tensor({4, 6}, {2}), 0));
  // At zero the norm has no gradient; what training needs is a finite one.
  EXPECT_TRUE(close(gradient("ReduceL2", tensor({0, 0}, {2})), tensor({0, 0}, {2}), 0));
}

TEST(ReductionTest, TopKPrefersLowerIndicesAmongEquals) {
  const at::Tensor x = tensor({1, 5, 5, 1}, {4});
  EXPECT_TRUE(at::equal(run_all("TopK", {x, integers({3}, {1})}).at(1), integers({1, 2, 0}, {3})));
  EXPECT_TRUE(at::equal(run_all("TopK", {x, integers({3}, {1})}, {{"largest", int64_t{0}}}).at(1),
                        integers({0, 3, 1}, {3})));
  EXPECT_TRUE(contains(error_of([&] {
                         run("TopK", {x, integers({5}, {1})});
                       }),
                       "k is 5 for an axis of size 4"));
}

TEST(ReductionTest, ArgMaxOfAnEmptyAxisIsAnError) {
  EXPECT_TRUE(contains(error_of([] { run("ArgMax", {at::zeros({0, 2})}); }), "axis 0 is empty"));
}

TEST(ReductionTest, ExclusiveSumsDoNotSubtract) {
  const at::Tensor x = tensor({1, kInfinity, 2}, {3});
  const at::Tensor out =
      run("CumSum", {x, integers({0}, {})}, {{"exclusive", int64_t{1}}, {"reverse", int64_t{1}}});
  EXPECT_TRUE(at::equal(out, tensor({kInfinity, 2, 0}, {3})));
  EXPECT_EQ(run("CumSum", {at::zeros({0}), integers({0}, {})}).numel(), 0);
}

}  // namespace
}  // namespace packlight::exec

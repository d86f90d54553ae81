// Gradients, hostile sizes and odd attributes of the operators that move elements by index or make
// tensors; their values are what the onnx package's cases test.
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

at::Tensor run(const char* op, std::vector<at::Tensor> inputs, Attributes attributes = {}) {
  graph::Node node;
  node.name = "node";
  node.op = op;
  node.attributes = std::move(attributes);
  node.outputs.resize(1);
  const ExecOptions options;
  return find_operator(op, "")(Call{node, inputs, options}).at(0);
}

// Of sum(output * [1, 2, 3, ...]) with respect to input `wanted`.
at::Tensor gradient(const char* op, std::vector<at::Tensor> inputs, size_t wanted = 0,
                    Attributes attributes = {}) {
  inputs[wanted] = inputs[wanted].clone().requires_grad_(true);
  const at::Tensor out = run(op, inputs, std::move(attributes));
  (out.reshape({-1}) * at::arange(1, out.numel() + 1, at::kFloat)).sum().backward();
  return inputs[wanted].grad();
}

TEST(IndexOperatorsTest, GradientsReachWhatWasTaken) {
  const at::Tensor x = tensor({1, 2, 3, 4}, {2, 2});
  EXPECT_TRUE(close(gradient("GatherElements", {x, integers({1, 1}, {1, 2})}),
                    tensor({0, 0, 1, 2}, {2, 2}), 0));
  EXPECT_TRUE(close(gradient("GatherND", {x, integers({0, 1, 0, 1, 1, 0}, {3, 2})}),
                    tensor({0, 3, 3, 0}, {2, 2}), 0));
  EXPECT_TRUE(close(gradient("Gather", {x, integers({-1}, {1})}), tensor({0, 0, 1, 2}, {2, 2}), 0));
  EXPECT_TRUE(close(
      gradient("Compress", {x, integers({0, 1}, {2}).to(at::kBool)}, 0, {{"axis", int64_t{0}}}),
      tensor({0, 0, 1, 2}, {2, 2}), 0));
  EXPECT_TRUE(close(gradient("ReverseSequence", {x, integers({2, 1}, {2})}),
                    tensor({3, 2, 1, 4}, {2, 2}), 0));
  EXPECT_TRUE(close(gradient("Expand", {tensor({1, 2}, {2, 1}), integers({2}, {1})}),
                    tensor({3, 7}, {2, 1}), 0));
  EXPECT_TRUE(
      close(gradient("Tile", {tensor({1, 2}, {2}), integers({2}, {1})}), tensor({4, 6}, {2}), 0));
  EXPECT_TRUE(close(gradient("Trilu", {x}), tensor({1, 2, 0, 4}, {2, 2}), 0));
  EXPECT_TRUE(
      close(gradient("OneHot", {integers({1}, {1}), integers({3}, {}), tensor({0, 1}, {2})}, 2),
            tensor({4, 2}, {2}), 0));
}

TEST(IndexOperatorsTest, GradientsReachDataAndUpdates) {
  const at::Tensor data = tensor({1, 2, 3}, {3}), rows = integers({2, -3}, {2, 1}),
                   elements = integers({2, -3}, {2}), updates = tensor({5, 7}, {2});
  struct Case {
    const char* reduction;
    at::Tensor data, updates;
  };
  // The outputs weigh 1, 2, 3; updates go to elements 2 and 0.
  for (const Case& one : {Case{"none", tensor({0, 2, 0}, {3}), tensor({3, 1}, {2})},
                          Case{"add", tensor({1, 2, 3}, {3}), tensor({3, 1}, {2})},
                          Case{"mul", tensor({7, 2, 15}, {3}), tensor({9, 1}, {2})},
                          Case{"max", tensor({0, 2, 0}, {3}), tensor({3, 1}, {2})},
                          Case{"min", tensor({1, 2, 3}, {3}), tensor({0, 0}, {2})}}) {
    const Attributes reduction{{"reduction", std::string(one.reduction)}};
    // Products are divided again in the gradient: two roundings.
    const double bound = 15 * 0x1p-23;
    EXPECT_TRUE(close(gradient("ScatterND", {data, rows, updates}, 0, reduction), one.data, bound))
        << one.reduction;
    EXPECT_TRUE(
        close(gradient("ScatterND", {data, rows, updates}, 2, reduction), one.updates, bound))
        << one.reduction;
    EXPECT_TRUE(close(gradient("ScatterElements", {data, elements, updates}, 2, reduction),
                      one.updates, bound))
        << one.reduction;
  }
  EXPECT_TRUE(close(data, tensor({1, 2, 3}, {3}), 0));  // inputs stay as they are
}

TEST(IndexOperatorsTest, IndicesOutsideAreErrors) {
  const at::Tensor x = at::zeros({2, 3}), one = at::zeros({1});
  for (const int64_t index : {int64_t{2}, int64_t{-3}}) {
    const std::string why = "index " + std::to_string(index) + " is outside [-2, 2)";
    EXPECT_TRUE(contains(error_of([&] { run("Gather", {x, integers({index}, {1})}); }), why));
    EXPECT_TRUE(contains(error_of([&] {
                           run("GatherElements", {x, integers({index}, {1, 1})});
                         }),
                         why));
    EXPECT_TRUE(contains(error_of([&] {
                           run("GatherND", {x, integers({index, 0}, {1, 2})});
                         }),
                         why));
    EXPECT_TRUE(contains(error_of([&] {
                           run("ScatterND", {x, integers({index, 0}, {1, 2}), one});
                         }),
                         why));
  }
  EXPECT_TRUE(contains(error_of([&] {
                         run("GatherND", {x, integers({0, 0, 0}, {1, 3})});
                       }),
                       "point into 3 dimensions"));
  EXPECT_TRUE(contains(error_of([&] {
                         run("Compress", {one, integers({1, 1}, {2}).to(at::kBool)});
                       }),
                       "a condition of 2 elements for an axis of 1"));
  EXPECT_TRUE(contains(error_of([&] {
                         run("ReverseSequence", {x, integers({1, 2, 3}, {3})});
                       }),
                       "outside [0, 2]"));
}

TEST(CreationOperatorsTest, AbsurdSizesAreErrors) {
  constexpr int64_t kHuge = int64_t{1} << 40;
  const at::Tensor sizes = integers({kHuge, kHuge}, {2});
  const char* const why = "holds more elements than memory";
  const at::Tensor huge = at::scalar_tensor(int64_t{1} << 60, at::kLong),
                   zero = at::scalar_tensor(0, at::kLong), one = at::scalar_tensor(1, at::kLong);
  EXPECT_TRUE(contains(error_of([&] { run("ConstantOfShape", {sizes}); }), why));
  EXPECT_TRUE(contains(error_of([&] { run("Expand", {at::zeros({1}), sizes}); }), why));
  EXPECT_TRUE(contains(error_of([&] { run("Tile", {at::zeros({1, 1}), sizes}); }), why));
  EXPECT_TRUE(contains(error_of([&] { run("Range", {zero, huge, one}); }), why));
  EXPECT_TRUE(contains(error_of([&] {
                         run("OneHot", {integers({0}, {1}), huge, tensor({0, 1}, {2})});
                       }),
                       why));
  EXPECT_TRUE(contains(error_of([&] { run("ConstantOfShape", {integers({-1}, {1})}); }), "is -1"));
  EXPECT_TRUE(contains(error_of([&] {
                         run("Range", {tensor({0}, {}), tensor({1}, {}), tensor({0}, {})});
                       }),
                       "is no range"));
  EXPECT_TRUE(contains(error_of([&] { run("Range", {zero, one, zero}); }), "delta is 0"));
}

TEST(CreationOperatorsTest, FarDiagonalsLeaveAllOrNothing) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max(),
                    kMin = std::numeric_limits<int64_t>::min();
  const at::Tensor x = tensor({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_TRUE(close(run("Trilu", {x, integers({kMin}, {})}), x, 0));
  EXPECT_TRUE(close(run("Trilu", {x, integers({kMax}, {})}), at::zeros({2, 3}), 0));
  EXPECT_TRUE(close(run("EyeLike", {x}, {{"k", kMax}}), at::zeros({2, 3}), 0));
  EXPECT_TRUE(
      close(run("EyeLike", {x}, {{"k", int64_t{2}}}), tensor({0, 0, 1, 0, 0, 0}, {2, 3}), 0));
}

TEST(IndexOperatorsTest, SuppressionRanksScoresThatAreNoNumbersLast) {
  const at::Tensor boxes = tensor({0, 0, 1, 1, 0, 2, 1, 3, 0, 4, 1, 5}, {1, 3, 4});
  const at::Tensor scores = tensor({NAN, 0.5f, 0.9f}, {1, 1, 3});
  EXPECT_TRUE(close(run("NonMaxSuppression", {boxes, scores, integers({5}, {1})}),
                    integers({0, 0, 2, 0, 0, 1, 0, 0, 0}, {3, 3}), 0));
  EXPECT_EQ(run("NonMaxSuppression", {boxes, scores}).sizes(), at::IntArrayRef({0, 3}));
  EXPECT_TRUE(
      contains(error_of([&] {
                 run("NonMaxSuppression", {boxes, scores, integers({5}, {1}), tensor({2}, {1})});
               }),
               "iou_threshold 2 is outside"));
}

}  // namespace
}  // namespace packlight::exec

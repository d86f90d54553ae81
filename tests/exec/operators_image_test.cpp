// Convolution, pooling, normalization and resampling: what ONNX's own cases leave out.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "exec/run_operator.h"
#include "exec/tensor_compare.h"
#include "graph/error_of.h"

namespace packlight::exec {
namespace {

using test::Attributes;
using test::close;
using test::contains;
using test::error_of;
using test::integers;
using test::noise;
using test::run;
using test::run_all;
using test::tensor;

std::vector<int64_t> list(std::initializer_list<int64_t> values) { return values; }
std::string text(const char* value) { return value; }

// The gradient of sum(output * v) with respect to input 0 in F64 against differences: the operators
// that keep F64 are smooth at these points, so what is left is the third derivative's h^2 and
// rounding / h.
::testing::AssertionResult gradient_is_right(const char* op, std::vector<at::Tensor> inputs,
                                             const Attributes& attributes) {
  constexpr double kStep = 1e-4, kBound = 1e-6;
  for (at::Tensor& input : inputs) {
    if (input.defined() && input.scalar_type() == at::kFloat) input = input.to(at::kDouble);
  }
  const at::Tensor x = inputs[0].clone().set_requires_grad(true);
  auto given = inputs;
  given[0] = x;
  const at::Tensor out = run(op, given, attributes);
  const at::Tensor v = noise(out.sizes(), 99).to(at::kDouble);
  (out * v).sum().backward();
  at::Tensor want = at::empty_like(inputs[0]);
  for (int64_t i = 0; i < want.numel(); ++i) {
    double sums[2];
    for (const int side : {0, 1}) {
      auto moved = inputs;
      moved[0] = inputs[0].clone();
      moved[0].view({-1})[i] += side == 0 ? -kStep : kStep;
      sums[side] = (run(op, moved, attributes) * v).sum().item<double>();
    }
    want.view({-1})[i] = (sums[1] - sums[0]) / (2 * kStep);
  }
  return close(x.grad(), want, kBound);
}

TEST(ConvolutionTest, AsymmetricPadsGroupsAndDilationMatchTheSum) {
  // y[c, i] = sum_k w[c, k] * x[c, i + 2 k - 1]
  const at::Tensor x = tensor({1, 2, 3, 4, 10, 20, 30, 40}, {1, 2, 4});
  const at::Tensor w = tensor({1, 10, 2, 1}, {2, 1, 2});
  const Attributes attributes{
      {"group", int64_t{2}}, {"dilations", list({2})}, {"pads", list({1, 2})}};
  EXPECT_TRUE(close(run("Conv", {x, w, tensor({0, 1}, {2})}, attributes),
                    tensor({20, 31, 42, 3, 4, 21, 51, 81, 61, 81}, {1, 2, 5}), 0));
  EXPECT_TRUE(gradient_is_right("Conv", {x, w}, attributes));
}

TEST(ConvolutionTest, TransposedWithUnequalPadsAndOutputShape) {
  const at::Tensor x = tensor({1, 2}, {1, 1, 2}), w = tensor({1, 10, 100}, {1, 1, 3});
  // Stride 2: 1 10 100+2 20 200.
  const auto with = [&](Attributes attributes) {
    attributes["strides"] = list({2});
    return run("ConvTranspose", {x, w, tensor({0.5}, {1})}, std::move(attributes));
  };
  EXPECT_TRUE(
      close(with({{"pads", list({1, 0})}}), tensor({10.5, 102.5, 20.5, 200.5}, {1, 1, 4}), 0));
  EXPECT_TRUE(close(with({{"output_shape", list({7})}}),
                    tensor({1.5, 10.5, 102.5, 20.5, 200.5, .5, .5}, {1, 1, 7}), 0));
  EXPECT_TRUE(close(with({{"output_padding", list({1})}}),
                    tensor({1.5, 10.5, 102.5, 20.5, 200.5, .5}, {1, 1, 6}), 0));
  EXPECT_TRUE(
      gradient_is_right("ConvTranspose", {x, w}, {{"pads", list({1, 0})}, {"strides", list({2})}}));
}

TEST(ConvolutionTest, BadInputIsAnError) {
  const at::Tensor x = at::ones({1, 2, 4}), w = at::ones({3, 2, 2});
  EXPECT_TRUE(contains(error_of([&] { run("Conv", {x, at::ones({3, 1, 2})}); }), "takes 1"));
  EXPECT_TRUE(contains(error_of([&] { run("Conv", {x, at::ones({3, 2, 5})}); }), "does not fit"));
  EXPECT_TRUE(contains(error_of([&] { run("Conv", {x, at::ones({3, 2})}); }), "rank"));
  EXPECT_TRUE(contains(error_of([&] { run("Conv", {x, w, at::ones({2})}); }), "bias"));
  EXPECT_TRUE(contains(error_of([&] {
                         run("Conv", {x, w}, {{"strides", list({0})}});
                       }),
                       "strides holds 0"));
  EXPECT_TRUE(contains(error_of([&] { run("Conv", {x, w}, {{"group", int64_t{0}}}); }), "group 0"));
  EXPECT_TRUE(contains(error_of([] {
                         run("Conv", {at::ones({1, 1, 1, 1, 1, 1}), at::ones({1, 1, 1, 1, 1, 1})});
                       }),
                       "at most 3"));
}

TEST(PoolingTest, OwnWindowsEqualLibTorchs) {
  const at::Tensor x = noise({2, 3, 9, 8}, 1);
  Attributes attributes{
      {"kernel_shape", list({3, 2})}, {"strides", list({2, 1})}, {"pads", list({1, 1, 1, 1})}};
  const auto both = run_all("MaxPool", {x}, attributes, 2);  // own: it makes indices
  EXPECT_TRUE(close(both[0], run("MaxPool", {x}, attributes), 0));
  EXPECT_TRUE(close(x.view({-1}).index_select(0, both[1].view({-1})), both[0].view({-1}), 0));
  const auto columns_first = [&] {
    Attributes turned = attributes;
    turned["storage_order"] = int64_t{1};
    return run_all("MaxPool", {x}, turned, 2)[1];
  }();
  EXPECT_TRUE(close(x.transpose(2, 3).reshape({-1}).index_select(0, columns_first.view({-1})),
                    both[0].view({-1}), 0));
  // Ceil makes no further window here, but takes the general way.
  for (const int64_t counted : {0, 1}) {
    attributes["count_include_pad"] = counted;
    Attributes general = attributes;
    general["ceil_mode"] = int64_t{1};
    EXPECT_TRUE(
        close(run("AveragePool", {x}, general), run("AveragePool", {x}, attributes), 8 * 0x1p-24));
  }
}

TEST(PoolingTest, RestOfAWindowCountsNever) {
  // Windows: a pad, 1, 2 | 3, a pad, nothing.
  const at::Tensor x = tensor({1, 2, 3}, {1, 1, 3});
  const Attributes attributes{{"kernel_shape", list({3})},
                              {"strides", list({3})},
                              {"pads", list({1, 1})},
                              {"ceil_mode", int64_t{1}}};
  Attributes counted = attributes;
  counted["count_include_pad"] = int64_t{1};
  EXPECT_TRUE(close(run("AveragePool", {x}, attributes), tensor({1.5, 3}, {1, 1, 2}), 0));
  EXPECT_TRUE(close(run("AveragePool", {x}, counted), tensor({1, 1.5}, {1, 1, 2}), 0));
}

TEST(PoolingTest, MaxOfIntegersIgnoresPads) {
  const at::Tensor x = tensor({-5, -7}, {1, 1, 2}).to(at::kChar);
  const at::Tensor got = run("MaxPool", {x}, {{"kernel_shape", list({2})}, {"pads", list({1, 1})}});
  EXPECT_EQ(got.scalar_type(), at::kChar);
  EXPECT_TRUE(close(got, tensor({-5, -5, -7}, {1, 1, 3}), 0));
}

TEST(PoolingTest, Gradients) {
  const at::Tensor x = noise({1, 2, 5, 4}, 3);
  const Attributes attributes{
      {"kernel_shape", list({3, 2})}, {"dilations", list({1, 2})}, {"pads", list({1, 0, 0, 1})}};
  for (const char* op : {"MaxPool", "AveragePool", "LpPool"}) {
    EXPECT_TRUE(gradient_is_right(op, {x}, attributes)) << op;
  }
  for (const char* op : {"GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"}) {
    EXPECT_TRUE(gradient_is_right(op, {x}, {})) << op;
  }
  at::Tensor zero = at::zeros({1, 1, 2}).set_requires_grad(true);
  run("GlobalLpPool", {zero}).sum().backward();
  EXPECT_TRUE(close(zero.grad(), at::zeros({1, 1, 2}), 0));
}

TEST(NormalizationTest, BatchStatisticsInTraining) {
  const at::Tensor x = tensor({1, 3, 5, 7}, {4, 1}), one = tensor({1}, {1}), none = at::zeros({1});
  const std::vector<at::Tensor> inputs{x, one, none, tensor({10}, {1}), tensor({100}, {1})};
  ExecOptions training;
  training.training = true;
  Attributes attributes{{"epsilon", 0.0}, {"momentum", 0.75}};
  // Mean 4, population variance 5.
  const at::Tensor want = (x - 4) / std::sqrt(5.F);
  const auto got = run_all("BatchNormalization", inputs, attributes, 3, "", training);
  EXPECT_TRUE(close(got.at(0), want, 4 * 0x1p-23));
  EXPECT_TRUE(close(got.at(1), tensor({8.5}, {1}), 8 * 0x1p-23));
  EXPECT_TRUE(close(got.at(2), tensor({76.25}, {1}), 64 * 0x1p-23));
  EXPECT_TRUE(close(run("BatchNormalization", inputs, attributes), (x - 10) / 10, 4 * 0x1p-23));
  attributes["training_mode"] = int64_t{1};
  EXPECT_TRUE(close(run("BatchNormalization", inputs, attributes), want, 4 * 0x1p-23));
  EXPECT_TRUE(gradient_is_right(
      "BatchNormalization",
      {noise({3, 2, 2}, 4), noise({2}, 5), noise({2}, 6), noise({2}, 7), at::ones({2})},
      {{"training_mode", int64_t{1}}}));
}

TEST(NormalizationTest, GroupScalesByChannelOrGroup) {
  const at::Tensor x = tensor({-1, 1, -1, 1}, {1, 4, 1}), zero = at::zeros({4});
  const Attributes attributes{{"num_groups", int64_t{2}}, {"epsilon", 0.0}};
  EXPECT_TRUE(close(run("GroupNormalization", {x, tensor({1, 2, 3, 4}, {4}), zero}, attributes),
                    tensor({-1, 2, -3, 4}, {1, 4, 1}), 4 * 0x1p-23));
  Attributes by_group = attributes;
  by_group["scale_by_group"] = int64_t{1};
  EXPECT_TRUE(close(run("GroupNormalization", {x, tensor({1, 2}, {2}), at::zeros({2})}, by_group),
                    tensor({-1, 1, -2, 2}, {1, 4, 1}), 4 * 0x1p-23));
  EXPECT_TRUE(contains(error_of([&] {
                         run("GroupNormalization", {x, zero, zero}, by_group);
                       }),
                       "no vector of 2"));
}

TEST(NormalizationTest, LayerScaleMayBroadcast) {
  const at::Tensor x = noise({2, 3, 4}, 8), scale = noise({3, 1}, 9);
  const Attributes attributes{{"axis", int64_t{1}}};
  EXPECT_TRUE(close(run("LayerNormalization", {x, scale}, attributes),
                    run("LayerNormalization", {x, scale.expand({3, 4}).contiguous()}, attributes),
                    8 * 0x1p-23));
  EXPECT_TRUE(gradient_is_right("LayerNormalization", {x, scale}, attributes));
  EXPECT_TRUE(contains(error_of([&] {
                         run("LayerNormalization", {x, noise({2, 2, 3, 4}, 1)});
                       }),
                       "scale"));
}

TEST(NormalizationTest, LpOfZerosIsZeroWithAGradient) {
  at::Tensor x = tensor({0, 0, 3, 4}, {2, 2}).set_requires_grad(true);
  const at::Tensor y = run("LpNormalization", {x});
  EXPECT_TRUE(close(y, tensor({0, 0, 0.6F, 0.8F}, {2, 2}), 0x1p-23));
  y.sum().backward();
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
}

TEST(ResizeTest, ImagesAreResizedAsEverythingElse) {
  const at::Tensor x = noise({2, 3, 6, 7}, 10);
  for (const char* mode : {"nearest", "linear"}) {
    for (const char* coordinates :
         {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"}) {
      for (const float factor : {2.F, 3.F, 1.5F, 0.5F, 0.3F}) {
        const at::Tensor scales = tensor({factor, 2 * factor}, {2});
        Attributes attributes{{"mode", text(mode)},
                              {"coordinate_transformation_mode", text(coordinates)},
                              {"axes", list({2, 3})}};
        const at::Tensor image = run("Resize", {x, {}, scales}, attributes);
        attributes["axes"] = list({3, 4});  // rank 5: axis by axis
        const at::Tensor general = run("Resize", {x.unsqueeze(0), {}, scales}, attributes)[0];
        // Positions 2^-20 apart, differences of at most 2 in two axes, and a few roundings.
        EXPECT_TRUE(close(image, general, 4 * 0x1p-20 + 8 * 0x1p-24))
            << mode << ' ' << coordinates << ' ' << factor;
      }
    }
  }
}

TEST(ResizeTest, Gradients) {
  const at::Tensor x = noise({1, 1, 5, 6}, 11), sizes = integers({3, 8}, {2});
  for (const char* mode : {"nearest", "linear", "cubic"}) {
    EXPECT_TRUE(gradient_is_right("Resize", {x, {}, {}, sizes},
                                  {{"mode", text(mode)}, {"axes", list({2, 3})}}))
        << mode;
  }
  EXPECT_TRUE(gradient_is_right(
      "Resize", {x, {}, {}, sizes},
      {{"mode", text("cubic")}, {"axes", list({2, 3})}, {"antialias", int64_t{1}}}));
}

TEST(ResizeTest, IntegersAreRounded) {
  const at::Tensor x = integers({0, 255}, {2}).to(at::kByte);
  const at::Tensor got = run("Resize", {x, {}, {}, integers({4}, {1})}, {{"mode", text("cubic")}});
  EXPECT_EQ(got.scalar_type(), at::kByte);  // the curve goes below 0 and above 255
  // A quarter in: 255 * (0.2617 - 0.0352) = 57.8.
  EXPECT_EQ(got[0].item<int>(), 0);
  EXPECT_EQ(got[3].item<int>(), 255);
  EXPECT_EQ(got[1].item<int>(), 58);
  EXPECT_EQ(got[2].item<int>(), 197);
}

TEST(ResizeTest, BadInputIsAnError) {
  const at::Tensor x = at::ones({2, 2}), scales = tensor({1, 2}, {2}),
                   sizes = integers({2, 4}, {2});
  const auto error = [&](std::vector<at::Tensor> inputs, Attributes attributes = {}) {
    return error_of([&] { run("Resize", std::move(inputs), std::move(attributes)); });
  };
  EXPECT_TRUE(contains(error({x, {}, scales, sizes}), "one of scales and sizes"));
  EXPECT_TRUE(contains(error({x, {}, tensor({1, -2}, {2})}), "no size"));
  EXPECT_TRUE(contains(error({x, {}, tensor({1}, {1})}), "scales has 1 entries"));
  EXPECT_TRUE(contains(error({x, {}, scales}, {{"mode", text("best")}}), "'best'"));
  EXPECT_TRUE(contains(error({x, {}, scales}, {{"nearest_mode", text("up")}}), "'up'"));
  EXPECT_TRUE(contains(
      error({x, {}, scales}, {{"coordinate_transformation_mode", text("tf_crop_and_resize")}}),
      "roi has 0 entries"));
  EXPECT_TRUE(contains(error({at::ones({0, 2}), {}, scales}), "empty"));
}

TEST(PadTest, NegativePadsAndLongReflections) {
  const at::Tensor x = tensor({1, 2, 3}, {3});
  const auto pad = [&](const char* mode, int64_t begin, int64_t end) {
    return run("Pad", {x, integers({begin, end}, {2})}, {{"mode", text(mode)}});
  };
  EXPECT_TRUE(close(pad("constant", -1, 2), tensor({2, 3, 0, 0}, {4}), 0));
  EXPECT_TRUE(close(pad("edge", -1, 2), tensor({2, 3, 3, 3}, {4}), 0));
  EXPECT_TRUE(close(pad("reflect", 5, 0), tensor({2, 1, 2, 3, 2, 1, 2, 3}, {8}), 0));
  EXPECT_TRUE(close(pad("wrap", 1, 4), tensor({3, 1, 2, 3, 1, 2, 3, 1}, {8}), 0));
  EXPECT_TRUE(contains(error_of([&] { pad("edge", -2, -2); }), "on 3 elements"));
  EXPECT_TRUE(contains(error_of([&] { pad("mirror", 1, 1); }), "'mirror'"));
  EXPECT_TRUE(contains(error_of([&] { run("Pad", {x, integers({1}, {1})}); }), "1 pads"));
  EXPECT_TRUE(gradient_is_right("Pad", {x, integers({3, -1}, {2})}, {{"mode", text("reflect")}}));
}

TEST(BlocksTest, SpaceToDepthIsTheInverse) {
  const at::Tensor x = noise({2, 8, 3, 2}, 12);
  for (const char* mode : {"DCR", "CRD"}) {
    const Attributes attributes{{"blocksize", int64_t{2}}, {"mode", text(mode)}};
    EXPECT_TRUE(
        close(run("SpaceToDepth", {run("DepthToSpace", {x}, attributes)}, attributes), x, 0))
        << mode;
  }
  EXPECT_TRUE(contains(error_of([&] {
                         run("DepthToSpace", {x}, {{"blocksize", int64_t{3}}});
                       }),
                       "9 does not divide 8"));
}

}  // namespace
}  // namespace packlight::exec

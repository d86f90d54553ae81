#include "quantize/smooth.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "error_code.h"
#include "exec/small_net.h"
#include "quantize/batches_of.h"
#include "quantize/compare_layers.h"
#include "quantize/quantize_network.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::ValueId;
using test::batches_of;
using test::count;
using test::expect_error;
using test::noise;
using test::SmallNet;

constexpr int64_t kChannels = 12;

// 10^-2 to 10^2, in an order of no meaning.
at::Tensor uneven() {
  const at::Tensor steps = at::arange(kChannels, at::kFloat).mul(5).remainder(kChannels);
  return at::pow(10, steps * (4.0 / (kChannels - 1)) - 2);
}

calib::Batches pictures() { return batches_of({noise({4, 3, 8, 8}, 31), noise({4, 3, 8, 8}, 32)}); }

std::vector<int64_t> ones(size_t n) { return std::vector<int64_t>(n, 1); }

// x -> Conv -> (what `between` makes of it) -> layer, whose input has uneven channels.
template <class Between>
Graph network(bool depthwise, const Between& between) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 3, 8, 8});
  const at::Tensor w = noise({kChannels, 3, 3, 3}, 1) * uneven().reshape({-1, 1, 1, 1});
  ValueId y = net.op("Conv", {x, net.constant(w), net.constant(noise({kChannels}, 2) * uneven())},
                     {{"pads", ones(4)}});
  y = between(net, y);
  const ValueId weight =
      net.constant(depthwise ? noise({kChannels, 1, 3, 3}, 3) / uneven().reshape({-1, 1, 1, 1})
                             : noise({5, kChannels, 1, 1}, 3) / uneven().reshape({1, -1, 1, 1}));
  y = net.op("Conv", {y, weight}, {{"group", depthwise ? kChannels : int64_t{1}}});
  net.returns({y});
  return net.graph;
}

struct Case {
  const char* name;
  int multiplications;  // nodes that smoothing adds
  std::function<ValueId(SmallNet&, ValueId)> between;
};

// What stands between a layer and the one before it, and whether the factors go into it.
std::vector<Case> cases() {
  return {
      {"nothing", 0, [](SmallNet&, ValueId y) { return y; }},
      {"Relu and pooling", 0,
       [](SmallNet& net, ValueId y) {
         return net.op("MaxPool", {net.op("Relu", {y})},
                       {{"kernel_shape", std::vector<int64_t>{2, 2}}});
       }},
      {"one factor and one addend", 0,
       [](SmallNet& net, ValueId y) {
         const ValueId swish = net.op("HardSwish", {y});
         const ValueId scaled = net.op("Mul", {net.constant(at::full({1}, 1.5f)), swish});
         return net.op("Add", {scaled, net.constant(at::full({1}, 0.25f))});
       }},
      {"a factor of each channel", 0,
       [](SmallNet& net, ValueId y) {
         const ValueId swish = net.op("HardSwish", {y});
         return net.op("Mul", {swish, net.constant(noise({kChannels, 1, 1}, 4))});
       }},
      {"an activation that does not commute", 1,
       [](SmallNet& net, ValueId y) { return net.op("HardSwish", {y}); }},
      {"a gate", 1,
       [](SmallNet& net, ValueId y) {
         return net.op("Mul", {y, net.op("HardSigmoid", {net.op("GlobalAveragePool", {y})})});
       }},
      {"a constant that varies along the picture", 1,
       [](SmallNet& net, ValueId y) {
         return net.op("Mul", {y, net.constant(noise({8}, 4))});
       }},
  };
}

TEST(Smooth, TheNetworkComputesTheSame) {
  for (const Case& c : cases()) {
    for (const bool depthwise : {false, true}) {
      SCOPED_TRACE(c.name);
      const Graph before = network(depthwise, c.between);
      Graph after = before;
      const SmoothReport report = smooth(after, pictures());
      EXPECT_EQ(report.multiplications, c.multiplications);
      EXPECT_GE(report.values, 1);
      EXPECT_GT(report.largest_factor, 10);
      EXPECT_EQ(count(after, "Mul") - count(before, "Mul"), c.multiplications);
      test::expect_same_outputs(before, after, 16);
    }
  }
}

double ratio(const Graph& graph, std::optional<SmoothOptions> options) {
  Graph result = graph;
  NetworkOptions settings;
  settings.quiet = true;
  settings.smooth = options;
  const auto data = pictures();
  return *quantize_network(result, settings, &data).layers.back().output_sqnr_db;
}

TEST(Smooth, UnevenChannelsCostLittleAfterwards) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    // Of depthwise convolutions every channel has a scale of its own.
    const Graph depthwise = network(true, c.between), dense = network(false, c.between);
    EXPECT_LT(ratio(depthwise, std::nullopt), 20);
    EXPECT_GT(ratio(depthwise, SmoothOptions{}), 25);
    EXPECT_GT(ratio(dense, SmoothOptions{}), ratio(dense, std::nullopt) + 6);
  }
}

TEST(Smooth, OtherReadersSeeTheValueAsItWas) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 3, 8, 8});
  const at::Tensor w = noise({kChannels, 3, 1, 1}, 1) * uneven().reshape({-1, 1, 1, 1});
  const ValueId y = net.op("Conv", {x, net.constant(w)});
  const ValueId a = net.op("Conv", {y, net.constant(noise({5, kChannels, 1, 1}, 3))}),
                b = net.op("Conv", {y, net.constant(noise({6, kChannels, 1, 1}, 4))});
  net.returns({a, b, net.op("Sigmoid", {y})});
  Graph after = net.graph;
  const SmoothReport report = smooth(after, pictures());
  EXPECT_EQ(report.multiplications, 1);  // both layers read one
  EXPECT_EQ(count(after, "Mul"), 1);
  test::expect_same_outputs(net.graph, after, 16);
}

TEST(Smooth, NormsOfEncodersTakeFactorsIn) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 4, kChannels});
  const ValueId norm = net.op("LayerNormalization",
                              {x, net.constant(uneven()), net.constant(noise({kChannels}, 2))});
  const ValueId q = net.op("MatMul", {norm, net.constant(noise({kChannels, 8}, 3))}),
                k = net.op("MatMul", {norm, net.constant(noise({kChannels, 8}, 4))});
  net.returns({q, k});
  Graph after = net.graph;
  const SmoothReport report = smooth(after, batches_of({noise({3, 4, kChannels}, 5)}));
  EXPECT_EQ(report.values, 1);
  EXPECT_EQ(report.multiplications, 0);
  test::expect_same_outputs(net.graph, after, 16);
}

TEST(Smooth, ChannelsThatAreNeverUsedStayFinite) {
  Graph graph = network(true, [](SmallNet&, ValueId y) { return y; });
  auto& weight = *graph.value(*graph.find("w0")).weight;
  at::Tensor w = std::get<at::Tensor>(weight).clone();
  w[3].zero_();
  weight = w;
  auto& bias = *graph.value(*graph.find("w1")).weight;
  at::Tensor b = std::get<at::Tensor>(bias).clone();
  b[3].zero_();
  bias = b;
  Graph after = graph;
  smooth(after, pictures());
  test::expect_same_outputs(graph, after, 16);
}

TEST(Smooth, BadInput) {
  Graph graph = network(true, [](SmallNet&, ValueId y) { return y; });
  expect_error(ErrorCode::kInvalidArgument, {"1.5", "[0, 1]"},
               [&] { smooth(graph, pictures(), {1.5}); });
  expect_error(ErrorCode::kInvalidArgument, {"no calibration samples"},
               [&] { smooth(graph, batches_of({})); });
  at::Tensor bad = noise({1, 3, 8, 8}, 1);
  bad[0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
  expect_error(ErrorCode::kInvalidArgument, {"not finite"},
               [&] { smooth(graph, batches_of({bad})); });
  NetworkOptions options;
  options.quiet = true;
  options.precision.activation_bits = 0;
  options.smooth = SmoothOptions{};
  expect_error(ErrorCode::kInvalidArgument, {"calibration samples", "smoothing"},
               [&] { quantize_network(graph, options, nullptr); });
}

}  // namespace
}  // namespace packlight::quantize

#include "quantize/quantize_network.h"

#include <gtest/gtest.h>

#include <limits>

#include "error_code.h"
#include "exec/small_net.h"
#include "quantize/batches_of.h"
#include "quantize/bias_correction.h"
#include "quantize/compare_layers.h"
#include "quantize/equalize.h"
#include "calib/layer_matrix.h"
#include "quantize/weight_codes.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;
using test::batches_of;
using test::count;
using test::expect_error;
using test::noise;
using test::SmallNet;
using test::tensor;

NetworkOptions plain() {
  NetworkOptions options;
  options.scales = ScaleMethod::kAbsMax;
  options.quiet = true;
  return options;
}

const at::Tensor& constant(const Graph& graph, const std::string& name) {
  return std::get<at::Tensor>(*graph.value(*graph.find(name)).weight);
}

at::Tensor run(const Graph& graph, const at::Tensor& x) {
  return exec::Executor(graph).run({{"x", x}}).at(graph.value(graph.outputs[0]).name);
}

double error(const Graph& graph, const Graph& original, const at::Tensor& x) {
  return (run(graph, x) - run(original, x)).square().mean().item<double>();
}

// y = x w, w: [2, 2].
SmallNet product(const at::Tensor& w) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 2});
  net.returns({net.op("MatMul", {x, net.constant(w)})});
  return net;
}

// conv -> relu -> conv(s) of `channels` channels on 8 x 8 pictures.
SmallNet two_convolutions(int64_t channels, double unevenness = 0) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 3, 8, 8});
  const at::Tensor factors =
      at::pow(10, at::linspace(-unevenness, unevenness, channels)).reshape({-1, 1, 1, 1});
  const at::Tensor w1 = noise({channels, 3, 3, 3}, 1) * 0.4 * factors,
                   w2 = noise({5, channels, 3, 3}, 2) * 0.3 / factors.reshape({1, -1, 1, 1});
  const ValueId first =
      net.op("Conv", {x, net.constant(w1), net.constant(noise({channels}, 3) * factors.flatten())},
             {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  const ValueId relu = net.op("Relu", {first});
  net.returns({net.op("Conv", {relu, net.constant(w2), net.constant(noise({5}, 4))})});
  return net;
}

TEST(QuantizeNetwork, WorkedExample) {
  // Columns are outputs: scales 1.27 / 127 and 2.54 / 127. Input -2.54 to 1: scale 0.02.
  SmallNet net = product(tensor({1.27f, -2.54f, 0.354f, 1.0f}, {2, 2}));
  const auto data = batches_of({tensor({-2.54f, 1.0f}, {1, 2})});
  const NetworkReport report = quantize_network(net.graph, plain(), &data);
  EXPECT_TRUE(at::equal(constant(net.graph, "w0_quantized"),
                        at::tensor({127, -127, 35, 50}, at::kChar).reshape({2, 2})));
  EXPECT_TRUE(test::close(constant(net.graph, "w0_scale"), tensor({0.01f, 0.02f}, {2}), 1e-9));
  EXPECT_FLOAT_EQ(constant(net.graph, "x_scale").item<float>(), 0.02f);
  // x = [0.51, -0.3] -> codes [26 (25.5 rounds to even), -15] -> [0.52, -0.3]; w' = [[1.27, -2.54],
  // [0.35, 1]].
  const at::Tensor y = run(net.graph, tensor({0.51f, -0.3f}, {1, 2}));
  EXPECT_TRUE(
      test::close(y, tensor({0.52f * 1.27f - 0.3f * 0.35f, -0.52f * 2.54f - 0.3f}, {1, 2}), 1e-5));
  ASSERT_EQ(report.layers.size(), 1u);
  EXPECT_NEAR(report.layers[0].least_scale, 0.01, 1e-9);
  EXPECT_NEAR(report.layers[0].largest_scale, 0.02, 1e-9);
  const double energy = 1.27 * 1.27 + 2.54 * 2.54 + 0.354 * 0.354 + 1;
  EXPECT_NEAR(report.layers[0].weight_error, 0.004 * 0.004 / energy, 1e-8);
  EXPECT_EQ(report.layers[0].macs, 4);
  EXPECT_EQ(report.int8_mac_share, 1.0);
}

TEST(QuantizeNetwork, AsymmetricActivationsHaveAZeroPoint) {
  SmallNet net = product(tensor({1, 0, 0, 1}, {2, 2}));
  NetworkOptions options = plain();
  options.symmetric_activations = false;
  const auto data = batches_of({tensor({-0.55f, 2.0f}, {1, 2})});
  quantize_network(net.graph, options, &data);
  EXPECT_EQ(constant(net.graph, "x_zero_point").scalar_type(), at::kByte);
  EXPECT_EQ(constant(net.graph, "x_zero_point").item<int>(), 55);
  EXPECT_TRUE(test::close(run(net.graph, tensor({-0.55f, 9.0f}, {1, 2})),
                          tensor({-0.55f, 2.0f}, {1, 2}), 1e-6));
}

TEST(QuantizeNetwork, NarrowActivationsStayOnTheirGrid) {
  SmallNet net = product(tensor({1, 0, 0, 1}, {2, 2}));
  NetworkOptions options = plain();
  options.precision.activation_bits = 3;  // codes -4 .. 3
  const auto data = batches_of({tensor({-0.5f, 3.0f}, {1, 2})});
  quantize_network(net.graph, options, &data);
  const at::Tensor y = run(net.graph, tensor({-100, 100, 1.4f, -1.6f}, {2, 2}));
  EXPECT_TRUE(test::close(y, tensor({-4, 3, 1, -2}, {2, 2}), 1e-6));
}

TEST(QuantizeNetwork, NarrowWeightsStayOnTheirGridAndSayTheirBits) {
  for (const int bits : {2, 3, 4, 6}) {
    SmallNet net = two_convolutions(6);
    NetworkOptions options = plain();
    options.precision = {bits, 0};
    options.scales = ScaleMethod::kSearch;
    quantize_network(net.graph, options, nullptr);
    int found = 0;
    for (const Node& node : net.graph.nodes()) {
      if (node.op != "DequantizeLinear") continue;
      ++found;
      EXPECT_EQ(node.integer("bits", 0), bits);
      const at::Tensor codes = std::get<at::Tensor>(*net.graph.value(node.inputs[0]).weight);
      EXPECT_LE(codes.max().item<int>(), (1 << (bits - 1)) - 1);
      EXPECT_GE(codes.min().item<int>(), -(1 << (bits - 1)));
    }
    EXPECT_EQ(found, 2);
  }
}

TEST(QuantizeNetwork, TheSearchedScaleHasLessErrorThanAbsMax) {
  const at::Tensor w = noise({8, 200}, 5).pow(3);
  const auto error_of = [&](ScaleMethod method) {
    return (decode(round_weight(w, 0, {4, false, method})) - w).square().sum().item<double>();
  };
  EXPECT_LT(error_of(ScaleMethod::kSearch), 0.9 * error_of(ScaleMethod::kAbsMax));
}

TEST(QuantizeNetwork, PerTensorHasOneScale) {
  SmallNet net = two_convolutions(6);
  NetworkOptions options = plain();
  options.per_tensor = true;
  options.precision.activation_bits = 0;
  quantize_network(net.graph, options, nullptr);
  EXPECT_EQ(constant(net.graph, "w0_scale").dim(), 0);
}

TEST(QuantizeNetwork, OneValueOfTwoLayersHasOnePair) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 4});
  const ValueId a = net.op("MatMul", {x, net.constant(noise({4, 4}, 1))}),
                b = net.op("MatMul", {x, net.constant(noise({4, 4}, 2))});
  net.returns({net.op("Add", {a, b})});
  const auto data = batches_of({noise({5, 4}, 3)});
  const NetworkReport report = quantize_network(net.graph, plain(), &data);
  EXPECT_EQ(count(net.graph, "QuantizeLinear"), 1);
  EXPECT_EQ(report.activations.size(), 1u);
}

// Two convolutions, one of them pooled, side by side into a third; and around it a residual sum.
SmallNet regions_network() {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 4, 8, 8});
  const std::vector<int64_t> same = {1, 1, 1, 1};
  const auto conv = [&](ValueId in, int64_t out, int64_t from, double scale, uint64_t seed) {
    return net.op("Conv", {in, net.constant(noise({out, from, 3, 3}, seed) * scale)},
                  {{"pads", same}});
  };
  const ValueId small = net.op("Relu", {conv(x, 4, 4, 0.1, 1)}), large = conv(x, 4, 4, 2, 2);
  const ValueId pooled =
      net.op("MaxPool", {large}, {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"pads", same}});
  const ValueId together = net.op("Concat", {small, pooled}, {{"axis", int64_t{1}}});
  const ValueId last = conv(together, 4, 8, 0.2, 3);
  const ValueId sum = net.op("Add", {last, x});
  net.returns({conv(sum, 2, 4, 0.3, 4)});
  return net;
}

TEST(QuantizeNetwork, RegionsShareScales) {
  SmallNet net = regions_network();
  const Graph original = net.graph;
  NetworkOptions options = plain();
  options.form = ActivationForm::kRegions;
  const at::Tensor x = noise({3, 4, 8, 8}, 9);
  const auto data = batches_of({x});
  const NetworkReport report = quantize_network(net.graph, options, &data);
  std::map<std::string, int> group;
  for (const ActivationReport& a : report.activations) group[a.value] = a.group;
  const auto name_after = [&](const std::string& op, size_t output = 0) {
    for (const Node& node : original.nodes())
      if (node.op == op) return original.value(node.outputs[output]).name;
    return std::string();
  };
  const std::string relu = name_after("Relu"), pooled = name_after("MaxPool"),
                    together = name_after("Concat"), sum = name_after("Add");
  ASSERT_EQ(group.count(relu) + group.count(pooled) + group.count(together) + group.count(sum), 4u);
  EXPECT_EQ(group[relu], group[pooled]);
  EXPECT_EQ(group[relu], group[together]);
  EXPECT_NE(group[relu], group[sum]);
  // Both terms of the residual sum: the input and what the third convolution makes.
  const Node& add = *std::find_if(original.nodes().begin(), original.nodes().end(),
                                  [](const Node& node) { return node.op == "Add"; });
  EXPECT_EQ(group.at(original.value(add.inputs[0]).name),
            group.at(original.value(add.inputs[1]).name));
  // The group's range is that of its widest member, which the rectified one is not.
  std::vector<ValueId> members;
  for (const ActivationReport& a : report.activations)
    if (a.group == group[relu]) members.push_back(*original.find(a.value));
  const auto seen =
      calib::observe_activations(original, members, data, calib::ObserverKind::kMinMax);
  double widest = 0;
  for (const auto& [id, observer] : seen) widest = std::max(widest, observer->range({}).high);
  EXPECT_LT(2 * seen.at(*original.find(relu))->range({}).high, widest);
  for (const ActivationReport& a : report.activations)
    if (a.group == group[relu]) {
      EXPECT_EQ(a.range.high, widest);
    }
  EXPECT_EQ(count(net.graph, "QuantizeLinear"), static_cast<int>(report.activations.size()));
  EXPECT_LT(error(net.graph, original, x), 1e-3 * run(original, x).square().mean().item<double>());
}

TEST(QuantizeNetwork, RegionsRefuseWhatLayersOfOneRegionCannotHave) {
  const auto data = batches_of({noise({3, 4, 8, 8}, 9)});
  const Graph original = regions_network().graph;
  std::vector<std::string> convs;
  for (const Node& node : original.nodes())
    if (node.op == "Conv") convs.push_back(node.name);
  NetworkOptions options = plain();
  options.form = ActivationForm::kRegions;
  options.precision = {4, 4, false};
  // The last in float; the first of more bits, which the second, that reads the same, would get.
  for (const auto& [rule, refused] : {std::pair(convs.back() + "=float", convs.back()),
                                      std::pair(convs[0] + "=w8a8", convs[1])}) {
    options.overrides = {parse_precision_rule(rule, options.precision)};
    Graph graph = original;
    expect_error(ErrorCode::kInvalidArgument, {"region", "'" + refused + "'"},
                 [&] { quantize_network(graph, options, &data); });
  }
  options.overrides.clear();
  options.correction.emplace().goal = 20;
  Graph graph = original;
  expect_error(ErrorCode::kInvalidArgument, {"repairs", "regions"},
               [&] { quantize_network(graph, options, &data); });
}

TEST(QuantizeNetwork, OnlyLayerInputsAreRoundedByDefault) {
  SmallNet net = regions_network();
  const auto data = batches_of({noise({3, 4, 8, 8}, 9)});
  const NetworkReport report = quantize_network(net.graph, plain(), &data);
  EXPECT_EQ(report.activations.size(), 3u);  // x, the concatenation, the sum
}

TEST(QuantizeNetwork, ProductsOfActivationsHaveBothFactorsRounded) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 4, 4});
  net.returns({net.op("MatMul", {x, net.op("Relu", {x})})});
  const auto data = batches_of({noise({2, 4, 4}, 3)});
  quantize_network(net.graph, plain(), &data);
  EXPECT_EQ(count(net.graph, "QuantizeLinear"), 2);
}

TEST(QuantizeNetwork, TheLastRuleWinsOverEdgesAndBody) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 4});
  ValueId y = x;
  for (uint64_t i = 0; i < 4; ++i) y = net.op("MatMul", {y, net.constant(noise({4, 4}, i))});
  net.returns({y});
  NetworkOptions options = plain();
  options.precision.weight_bits = 4;
  options.edge = parse_precision("int8", options.precision);
  options.overrides = {parse_precision_rule("MatMul*3=w2a5", options.precision),
                       parse_precision_rule("w2=float", options.precision),
                       parse_precision_rule("MatMul7=f16", options.precision)};
  const auto data = batches_of({noise({5, 4}, 3)});
  const NetworkReport report = quantize_network(net.graph, options, &data);
  ASSERT_EQ(report.layers.size(), 4u);
  EXPECT_EQ(to_string(report.layers[0].precision), "w8a8");
  EXPECT_EQ(to_string(report.layers[1].precision), "float");
  EXPECT_EQ(to_string(report.layers[2].precision), "w4a8");
  EXPECT_EQ(to_string(report.layers[3].precision), "f16");
  EXPECT_EQ(report.int8_mac_share, 0.5);
  EXPECT_EQ(constant(net.graph, "w6_f16").scalar_type(), at::kHalf);
}

TEST(QuantizeNetwork, EdgesComeAfterTheTableAndRulesAfterThem) {
  SmallNet net = two_convolutions(4);
  std::vector<std::string> names;
  for (const Node& node : net.graph.nodes())
    if (node.op == "Conv") names.push_back(node.name);
  NetworkOptions options = plain();
  options.table = {parse_precision_rule("*=int4", options.precision)};
  options.edge = parse_precision("w6a8", options.precision);
  options.overrides = {parse_precision_rule(names[1] + "=w3a8", options.precision)};
  const auto data = batches_of({noise({3, 3, 8, 8}, 9)});
  const Json recipe = options_to_json(options);
  const NetworkReport report = quantize_network(net.graph, options, &data);
  EXPECT_EQ(to_string(report.layers[0].precision), "w6a8");
  EXPECT_EQ(to_string(report.layers[1].precision), "w3a8");
  EXPECT_EQ(recipe["sensitivity"], Json({"*=w4a8"}));
  EXPECT_EQ(recipe["overrides"], Json({names[1] + "=w3a8"}));
}

TEST(QuantizeNetwork, EqualizingKeepsTheNetworkAndEvensItsChannels) {
  SmallNet net = two_convolutions(6, 1.5);
  const Graph original = net.graph;
  const at::Tensor x = noise({3, 3, 8, 8}, 9);
  NetworkOptions options = plain();
  options.per_tensor = true;
  const auto data = batches_of({x});
  Graph uneven = original, equalized = original;
  quantize_network(uneven, options, &data);
  options.equalize = true;
  EXPECT_EQ(quantize_network(equalized, options, &data).equalized_pairs, 1);
  EXPECT_LT(error(equalized, original, x), 0.1 * error(uneven, original, x));
  EXPECT_EQ(equalize(net.graph).pairs, 1);
  EXPECT_TRUE(test::close(run(net.graph, x), run(original, x),
                          1e-5 * run(original, x).abs().max().item<double>()));
  const at::Tensor w1 = constant(net.graph, "w0"), w2 = constant(net.graph, "w4");
  EXPECT_TRUE(test::close(w1.abs().amax({1, 2, 3}), w2.abs().amax({0, 2, 3}), 1e-3));
}

// What folding a BatchNormalization leaves of a channel that is dead: hardly a weight, but a bias.
TEST(QuantizeNetwork, EqualizingLeavesDeadChannelsAlone) {
  SmallNet net = two_convolutions(6);
  net.graph.value(*net.graph.find("w0"))
      .weight->emplace<at::Tensor>(
          constant(net.graph, "w0").index_fill(0, at::tensor({2}, at::kLong), 1e-12));
  net.graph.value(*net.graph.find("w1"))
      .weight->emplace<at::Tensor>(
          constant(net.graph, "w1").index_fill(0, at::tensor({2}, at::kLong), 0.3));
  Graph graph = net.graph;
  const at::Tensor bias = constant(net.graph, "w1");
  equalize(graph);
  EXPECT_EQ(constant(graph, "w1")[2].item<float>(), bias[2].item<float>());
  EXPECT_LT(constant(graph, "w1").abs().max().item<double>(), 100);
  EXPECT_FALSE(at::equal(constant(graph, "w1"), bias));  // the others are scaled
}

// Inputs with a mean: where elements are independent and around 0, the nearest codes are the best.
TEST(QuantizeNetwork, AdaRoundIsBetterThanNearestOnOtherInputs) {
  SmallNet net = two_convolutions(8);
  const Graph original = net.graph;
  std::vector<at::Tensor> samples;
  for (uint64_t i = 0; i < 16; ++i) samples.push_back(noise({4, 3, 8, 8}, 100 + i) * 0.3 + 1);
  const auto data = batches_of(samples);
  NetworkOptions options = plain();
  options.precision.weight_bits = 3;
  options.scales = ScaleMethod::kSearch;
  Graph nearest = original, learned = original, again = original;
  quantize_network(nearest, options, &data);
  options.adaround = true;
  options.rounding.iterations = 600;
  const NetworkReport report = quantize_network(learned, options, &data);
  for (const NetworkLayerReport& layer : report.layers) {
    ASSERT_TRUE(layer.rounding_gain.has_value());
    EXPECT_LT(*layer.rounding_gain, 0.9);
  }
  const at::Tensor x = noise({32, 3, 8, 8}, 7) * 0.3 + 1;
  EXPECT_LT(error(learned, original, x), 0.8 * error(nearest, original, x));
  quantize_network(again, options, &data);
  EXPECT_TRUE(at::equal(constant(learned, "w0_quantized"), constant(again, "w0_quantized")));
}

TEST(QuantizeNetwork, BiasCorrectionTakesTheMeanErrorAway) {
  SmallNet net = two_convolutions(8);
  const Graph original = net.graph;
  // Activations whose mean is far from zero, so that rounded weights shift outputs.
  const at::Tensor x = noise({8, 3, 8, 8}, 5) * 0.1 + 1;
  const auto data = batches_of({x});
  NetworkOptions options = plain();
  options.precision = {3, 0};
  Graph shifted = original, corrected = original;
  quantize_network(shifted, options, &data);
  options.bias_correct = true;
  quantize_network(corrected, options, &data);
  EXPECT_LT(error(corrected, original, x), 0.5 * error(shifted, original, x));
}

TEST(QuantizeNetwork, AShiftIsSubtractedWhereverTheBiasIs) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 2});
  const ValueId bare = net.op("MatMul", {x, net.constant(at::eye(2))}),
                added = net.op("Add", {net.op("MatMul", {bare, net.constant(at::eye(2))}),
                                       net.constant(tensor({10, 20}, {2}))}),
                gemm = net.op("Gemm", {added, net.constant(at::eye(2))});
  net.returns({gemm});
  std::vector<std::string> names;
  for (const Node& node : net.graph.nodes())
    if (node.op != "Add") names.push_back(node.name);
  for (const std::string& name : names) subtract_from_bias(net.graph, name, tensor({1, -1}, {2}));
  graph::verify(net.graph);
  EXPECT_TRUE(test::close(run(net.graph, tensor({0, 0}, {1, 2})), tensor({7, 23}, {1, 2}), 1e-6));
}

TEST(LayerMatrix, RowsTimesMatrixIsWhatTheNodeComputes) {
  struct Case {
    std::string op;
    std::vector<int64_t> x, w;
    test::Attributes attributes;
  };
  const auto ints = [](std::vector<int64_t> v) { return v; };
  const std::vector<Case> cases = {
      {"Conv",
       {2, 4, 7, 6},
       {6, 2, 3, 2},
       {{"group", int64_t{2}},
        {"pads", ints({1, 0, 2, 1})},
        {"strides", ints({2, 1})},
        {"dilations", ints({1, 2})}}},
      {"Conv",
       {2, 3, 5, 5},
       {3, 1, 3, 3},
       {{"group", int64_t{3}}, {"auto_pad", std::string("SAME_UPPER")}}},
      {"Conv", {2, 3, 9}, {4, 3, 3}, {}},
      {"ConvTranspose", {2, 3, 4, 5}, {3, 4, 2, 2}, {{"strides", ints({2, 2})}}},
      {"MatMul", {2, 3, 4}, {4, 5}, {}},
      {"Gemm", {3, 4}, {5, 4}, {{"transB", int64_t{1}}}}};
  for (const Case& c : cases) {
    SmallNet net;
    graph::Shape shape(c.x.begin(), c.x.end());
    const ValueId x = net.input("x", shape);
    const at::Tensor w = noise(c.w, 2), input = noise(c.x, 3);
    net.returns({net.op(c.op, {x, net.constant(w)}, c.attributes)});
    const auto layers = find_layers(net.graph, {});
    ASSERT_EQ(layers.size(), 1u) << c.op;
    const auto matrix = calib::LayerMatrix::of(net.graph, layers[0].node);
    ASSERT_TRUE(matrix) << c.op;
    EXPECT_TRUE(at::equal(matrix->weight(matrix->matrix(w)), w));
    const int64_t positions = matrix->positions(input);
    const at::Tensor rows = matrix->rows(input, at::arange(positions, at::kLong));
    // [groups, positions, outputs] -> [positions, all outputs].
    const at::Tensor got =
        at::bmm(rows, matrix->matrix(w).transpose(1, 2)).transpose(0, 1).reshape({positions, -1});
    at::Tensor want = run(net.graph, input);
    if (c.op == "Conv") want = want.movedim(1, -1).reshape({positions, -1});
    if (c.op == "ConvTranspose")  // [n, o, 2h, 2w] -> one row an input pixel
      want = want.reshape({2, 4, 4, 2, 5, 2}).permute({0, 2, 4, 1, 3, 5}).reshape({positions, -1});
    if (c.op != "Conv" && c.op != "ConvTranspose") want = want.reshape({positions, -1});
    EXPECT_TRUE(test::close(got, want, 64 * 0x1p-24 * 10)) << c.op;
  }
}

TEST(QuantizeNetwork, SignalToNoiseByHand) {
  SmallNet net = product(tensor({1, 0, 0, 1}, {2, 2})),
           other = product(tensor({1.1f, 0, 0, 1}, {2, 2}));
  const std::string y = net.graph.value(net.graph.outputs[0]).name;
  const auto data = batches_of({tensor({1, 2}, {1, 2})});
  EXPECT_NEAR(signal_to_noise(net.graph, other.graph, {y}, data, 8).at(y),
              10 * std::log10(5 / 0.01), 1e-3);
}

TEST(QuantizeNetwork, SignalToNoiseOfWhatIsNotFinite) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto ratio = [](const at::Tensor& y, const at::Tensor& rounded) {
    const auto network = [](const at::Tensor& w) {
      SmallNet net;
      net.returns({net.op("Mul", {net.input("x", {1}), net.constant(w)})});
      return net.graph;
    };
    return output_signal_to_noise(network(y), network(rounded), batches_of({tensor({1}, {1})}), 8);
  };
  const auto inf = static_cast<float>(kInfinity), nan = std::nanf("");
  EXPECT_NEAR(ratio(tensor({-inf, nan, 3}, {3}), tensor({-inf, nan, 2.9f}, {3})),
              10 * std::log10(9 / 0.01), 1e-3);
  EXPECT_EQ(ratio(tensor({-inf, 3}, {2}), tensor({-inf, 3}, {2})), kInfinity);
  for (const float bad : {inf, -inf, nan})
    EXPECT_EQ(ratio(tensor({1, 3}, {2}), tensor({1, bad}, {2})), -kInfinity) << bad;
  EXPECT_EQ(ratio(tensor({1, -inf}, {2}), tensor({1, 3}, {2})), -kInfinity);
  EXPECT_EQ(ratio(tensor({1, inf}, {2}), tensor({1, -inf}, {2})), -kInfinity);
  EXPECT_EQ(ratio(tensor({1, 3}, {2}), tensor({1, 3, 3}, {3})), -kInfinity);  // another shape
}

TEST(QuantizeNetwork, OutputsThatNothingComputesCannotBeCompared) {
  SmallNet net;
  net.input("x", {1});
  net.returns({net.number(1)});
  expect_error(ErrorCode::kInvalidArgument, {"no output to compare"}, [&] {
    output_signal_to_noise(net.graph, net.graph, batches_of({tensor({1}, {1})}), 8);
  });
}

TEST(QuantizeNetwork, WeightsInF16AreMeasuredAndMustFit) {
  NetworkOptions options = plain();
  options.precision = parse_precision("f16", {});
  SmallNet net = product(tensor({1.0f, 0.1f, 2.0f, 4.0f}, {2, 2}));
  const double error = 0.1f - 0x1.998p-4;  // F16 has 11 bits
  EXPECT_NEAR(quantize_network(net.graph, options, nullptr).layers[0].weight_error,
              error * error / 21.01, 1e-14);
  for (const bool dynamic : {false, true}) {
    options.dynamic = dynamic;
    SmallNet large = product(tensor({1, -1e5f, 2, 3}, {2, 2}));
    expect_error(ErrorCode::kInvalidArgument, {"'w0'", "-100000", "65504"},
                 [&] { quantize_network(large.graph, options, nullptr); });
  }
}

TEST(QuantizeNetwork, RefusesANetworkWithoutLayers) {
  SmallNet net;
  net.returns({net.op("Add", {net.input("x", {2, 2}), net.constant(noise({2, 2}, 1))})});
  const auto data = batches_of({noise({2, 2}, 2)});
  expect_error(ErrorCode::kInvalidArgument, {"no layer to quantize", "MatMul"},
               [&] { quantize_network(net.graph, plain(), &data); });
}

TEST(QuantizeNetwork, SaysHowMuchOfTheWeightsBelongsToNoLayer) {
  SmallNet net;
  const ValueId rows = net.op("Gather", {net.constant(noise({12, 4}, 1)), net.ints({1, 2})});
  const ValueId x = net.op("Add", {net.input("x", {2, 4}), rows});
  net.returns({net.op("MatMul", {x, net.constant(noise({4, 4}, 2))})});
  const auto data = batches_of({noise({2, 4}, 3)});
  const NetworkReport report = quantize_network(net.graph, plain(), &data);
  ASSERT_EQ(report.notices.size(), 1u);
  EXPECT_NE(report.notices[0].find("75.0 %"), std::string::npos) << report.notices[0];
  SmallNet plain_net = two_convolutions(4);
  const auto pictures = batches_of({noise({2, 3, 8, 8}, 3)});
  EXPECT_TRUE(quantize_network(plain_net.graph, plain(), &pictures).notices.empty());
}

TEST(QuantizeNetwork, RefusesBadInput) {
  const at::Tensor good = tensor({1, 2}, {1, 2});
  const auto refuses = [&](std::initializer_list<std::string> parts, const NetworkOptions& options,
                           std::vector<at::Tensor> samples, bool with_data = true,
                           ErrorCode code = ErrorCode::kInvalidArgument,
                           at::Tensor w = at::eye(2)) {
    SmallNet net = product(w);
    const size_t before = net.graph.nodes().size();
    const auto data = batches_of(std::move(samples));
    expect_error(code, parts,
                 [&] { quantize_network(net.graph, options, with_data ? &data : nullptr); });
    EXPECT_EQ(net.graph.nodes().size(), before);
  };
  refuses({"no calibration samples"}, plain(), {});
  refuses({"calibration samples are needed"}, plain(), {}, false);
  refuses({"'x'", "nan"}, plain(), {good * std::numeric_limits<float>::quiet_NaN()});
  refuses({"'w0'"}, plain(), {good}, true, ErrorCode::kCorrupt,
          tensor({1, std::numeric_limits<float>::infinity(), 0, 1}, {2, 2}));
  NetworkOptions options = plain();
  options.overrides = {parse_precision_rule("nothing*=int4", {})};
  refuses({"'nothing*'", "MatMul1"}, options, {good});
  options = plain();
  options.precision.weight_bits = 9;
  refuses({"9 bits"}, options, {good});
  options = plain();
  options.adaround = true;
  options.rounding.iterations = 0;
  refuses({"0 iterations"}, options, {good});
  SmallNet twice = product(at::eye(2));
  const auto data = batches_of({good});
  quantize_network(twice.graph, plain(), &data);
  expect_error(ErrorCode::kUnsupported, {"quantized already"},
               [&] { quantize_network(twice.graph, plain(), &data); });
  for (const std::string text : {"int", "int9", "w1", "w4a9", "w4a", "int4a8x", "a8", "", "half"})
    expect_error(ErrorCode::kInvalidArgument, {"'" + text + "'"},
                 [&] { parse_precision(text, {}); });
  expect_error(ErrorCode::kInvalidArgument, {"PATTERN"}, [] { parse_precision_rule("=int4", {}); });
}

}  // namespace
}  // namespace packlight::quantize

#include "quantize/qat.h"

#include <gtest/gtest.h>

#include <cmath>

#include "error_code.h"
#include "exec/small_net.h"
#include "quantize/batches_of.h"
#include "quantize/bias_correction.h"
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
using test::tensor;

at::Tensor run(const Graph& graph, const at::Tensor& x) {
  return exec::Executor(graph).run({{"x", x}}).at(graph.value(graph.outputs[0]).name);
}

double error(const Graph& graph, const Graph& original, const at::Tensor& x) {
  return (run(graph, x) - run(original, x)).square().mean().item<double>();
}

at::Tensor samples(int64_t n, uint64_t seed) { return noise({n, 2, 6, 6}, seed) * 0.5 + 0.3; }

// conv - relu - conv - relu - gemm.
SmallNet network() {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 2, 6, 6});
  const std::vector<int64_t> same = {1, 1, 1, 1};
  const ValueId a = net.op(
      "Relu",
      {net.op("Conv",
              {x, net.constant(noise({6, 2, 3, 3}, 1) * 0.4), net.constant(noise({6}, 2) * 0.1)},
              {{"pads", same}})});
  const ValueId b =
      net.op("Relu", {net.op("Conv", {a, net.constant(noise({4, 6, 3, 3}, 3) * 0.3)})});
  const ValueId flat = net.op("Flatten", {b});
  net.returns(
      {net.op("Gemm", {flat, net.constant(noise({5, 64}, 4) * 0.2), net.constant(noise({5}, 5))},
              {{"transB", int64_t{1}}})});
  return net;
}

NetworkOptions bits(int weights, int activations, bool symmetric = true) {
  NetworkOptions options;
  options.precision = {weights, activations};
  options.symmetric_activations = symmetric;
  options.quiet = true;
  return options;
}

// The float network's outputs as targets of a mean squared error.
TrainingData taught_by(const Graph& original, int64_t batches) {
  TrainingData data;
  data.batches = batches;
  data.loss.kind = train::LossKind::kMse;
  data.each = [original, batches](int64_t epoch, const std::function<void(train::Batch)>& use) {
    for (int64_t i = 0; i < batches; ++i) {
      const at::Tensor x = samples(16, static_cast<uint64_t>(1000 + epoch * batches + i));
      use({{{"x", x}}, {run(original, x), {}}});
    }
  };
  return data;
}

QatOptions short_training(QatMethod method = QatMethod::kLsq) {
  QatOptions options;
  options.method = method;
  options.epochs = 3;
  options.learning_rate = 0.02;
  options.quiet = true;
  return options;
}

TEST(Qat, WhatWasTrainedIsWhatShips) {
  for (const ActivationForm form_kind : {ActivationForm::kInputs, ActivationForm::kRegions}) {
    for (const NetworkOptions& options : {bits(2, 8), bits(4, 3), bits(8, 8, false)}) {
      const Graph original = network().graph;
      auto layers = find_layers(original, options.precision);
      const ActivationPlan plan = plan_activations(original, layers, form_kind);
      std::map<size_t, WeightCodes> weights;
      for (size_t i = 0; i < layers.size(); ++i)
        weights[i] =
            round_weight(exec::dense_weight(*original.value(layers[i].weight(original)).weight),
                         layers[i].weight_axis, {options.precision.weight_bits});
      const calib::CodeGrid grid{options.precision.activation_bits, options.symmetric_activations};
      std::vector<calib::CodeParameters> groups(plan.group_bits.size(),
                                                calib::code_parameters({-1, 2}, grid));
      Graph quantized = original;
      const Inserted inserted = insert_codes(quantized, layers, plan, groups, weights);
      TrainingForm form =
          to_training_form(original, quantized, layers, inserted, plan, weights, groups);
      const at::Tensor x = samples(8, 9);
      EXPECT_TRUE(at::equal(run(form.graph, x), run(quantized, x)));
      const auto scale_by = [&](ValueId id, const at::Tensor& factors) {
        auto& weight = std::get<at::Tensor>(*form.graph.value(id).weight);
        weight = weight * factors;
      };
      for (const auto& weight : form.weights) {
        const auto sizes = std::get<at::Tensor>(*form.graph.value(weight.master).weight).sizes();
        scale_by(weight.master, 1 + 0.3 * noise(sizes.vec(), 7));
        scale_by(weight.scales, at::scalar_tensor(1.1f));
      }
      for (const auto& [group, activation] : form.activations)
        scale_by(activation.scale, at::scalar_tensor(0.7f));
      const at::Tensor before = run(quantized, x);
      freeze(form, quantized, weights, groups);
      EXPECT_FALSE(at::equal(run(quantized, x), before));
      EXPECT_TRUE(at::equal(run(form.graph, x), run(quantized, x)));
    }
  }
}

TEST(Qat, TrainingBringsTwoBitsNearerToTheFloatNetwork) {
  const Graph original = network().graph;
  const auto data = batches_of({samples(64, 1)});
  const TrainingData training = taught_by(original, 40);
  const at::Tensor x = samples(64, 2);
  Graph plain = original;
  quantize_network(plain, bits(2, 8), &data);
  for (const QatMethod method : {QatMethod::kLsq, QatMethod::kSte}) {
    NetworkOptions options = bits(2, 8);
    options.qat = short_training(method);
    Graph trained = original, again = original;
    const NetworkReport report = quantize_network(trained, options, &data, &training);
    ASSERT_TRUE(report.training.has_value());
    EXPECT_EQ(report.training->steps, 120);
    EXPECT_LT(report.training->losses.back(), report.training->losses.front());
    EXPECT_LT(error(trained, original, x), 0.5 * error(plain, original, x));
    quantize_network(again, options, &data, &training);
    EXPECT_TRUE(at::equal(run(trained, x), run(again, x)));
  }
}

TEST(Qat, LearnedScalesMoveAndFrozenOnesOfTheFirstEpochStay) {
  const Graph original = network().graph;
  const auto data = batches_of({samples(64, 1)});
  const TrainingData training = taught_by(original, 10);
  const auto scale = [&](const Graph& graph, const std::string& value) {
    return std::get<at::Tensor>(*graph.value(*graph.find(value + "_scale")).weight).clone();
  };
  Graph start = original, learned = original, followed = original;
  quantize_network(start, bits(4, 4), &data);
  NetworkOptions options = bits(4, 4);
  options.qat = short_training();
  quantize_network(learned, options, &data, &training);
  EXPECT_FALSE(at::equal(scale(start, "x"), scale(learned, "x")));
  EXPECT_FALSE(at::equal(scale(start, "w0"), scale(learned, "w0")));
  options.qat = short_training(QatMethod::kSte);
  options.qat->observe_epochs = 0;
  quantize_network(followed, options, &data, &training);
  EXPECT_TRUE(at::equal(scale(start, "x"), scale(followed, "x")));
  EXPECT_TRUE(at::equal(scale(start, "w0"), scale(followed, "w0")));
}

TEST(Qat, AFollowedScaleCoversEveryMemberOfItsRegion) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 2, 6, 6});
  const auto term = [&](uint64_t seed, double size) {
    return net.op("Conv", {x, net.constant(noise({4, 2, 1, 1}, seed) * size)});
  };
  const ValueId sum = net.op("Add", {term(1, 0.1), term(2, 3)});
  net.returns({net.op("Conv", {sum, net.constant(noise({3, 4, 1, 1}, 3))})});
  const Graph original = net.graph;
  const at::Tensor seen = samples(32, 1);
  const auto data = batches_of({seen});
  TrainingData training = taught_by(original, 4);
  training.each = [&](int64_t, const std::function<void(train::Batch)>& use) {
    for (int i = 0; i < 4; ++i) use({{{"x", seen}}, {run(original, seen), {}}});
  };
  NetworkOptions options = bits(8, 8);
  options.form = ActivationForm::kRegions;
  Graph plain = original, followed = original;
  quantize_network(plain, options, &data);
  options.qat = short_training(QatMethod::kSte);
  options.qat->epochs = 1;
  options.qat->learning_rate = 1e-9;
  quantize_network(followed, options, &data, &training);
  // The same samples and weights: the same ranges but for what rounding moves.
  int compared = 0;
  for (const graph::Node& node : plain.nodes()) {
    if (node.op != "QuantizeLinear") continue;
    const std::string& name = plain.value(node.inputs[1]).name;
    const auto scale = [&](const Graph& graph) {
      return std::get<at::Tensor>(*graph.value(*graph.find(name)).weight).item<double>();
    };
    EXPECT_NEAR(scale(followed), scale(plain), 0.03 * scale(plain)) << name;
    ++compared;
  }
  EXPECT_GT(compared, 2);
}

TEST(Qat, TheTeacherNeedsNoLabels) {
  const Graph original = network().graph;
  const auto data = batches_of({samples(64, 1)});
  TrainingData training;
  training.batches = 20;
  training.loss.kind = train::LossKind::kKl;
  training.each = [](int64_t epoch, const std::function<void(train::Batch)>& use) {
    for (int64_t i = 0; i < 20; ++i)
      use({{{"x", samples(16, static_cast<uint64_t>(100 * epoch + i))}}, {}});
  };
  NetworkOptions options = bits(2, 8);
  options.qat = short_training();
  Graph trained = original;
  const NetworkReport report = quantize_network(trained, options, &data, &training);
  EXPECT_LT(report.training->losses.back(), 0.7 * report.training->losses.front());
}

TEST(Qat, RefusesWhatDoesNotGoTogether) {
  const Graph original = network().graph;
  const auto data = batches_of({samples(4, 1)});
  const TrainingData training = taught_by(original, 1);
  NetworkOptions options = bits(4, 8);
  options.qat = short_training();
  Graph graph = original;
  expect_error(ErrorCode::kInvalidArgument, {"samples to train on"},
               [&] { quantize_network(graph, options, &data); });
  options.adaround = true;
  expect_error(ErrorCode::kInvalidArgument, {"AdaRound"},
               [&] { quantize_network(graph, options, &data, &training); });
  options.adaround = false;
  options.qat->epochs = 0;
  expect_error(ErrorCode::kInvalidArgument, {"0 epochs"},
               [&] { quantize_network(graph, options, &data, &training); });
  EXPECT_EQ(graph.nodes().size(), original.nodes().size());
}

TEST(CorrectLayers, StopsAtTheBudgetAndEscalatesUntilItIsMet) {
  const Graph original = network().graph;
  const auto data = batches_of({samples(64, 1)});
  NetworkOptions options = bits(2, 8);
  options.scales = ScaleMethod::kAbsMax;
  options.rounding.iterations = 100;
  options.correction.emplace().goal = -100;
  Graph untouched = original;
  const NetworkReport none = quantize_network(untouched, options, &data);
  EXPECT_TRUE(none.correction->repairs.empty());
  double last = none.correction->before;
  for (const auto& [goal, needed] :
       {std::pair(last + 1, Repair::kBias), std::pair(25.0, Repair::kInt8),
        std::pair(80.0, Repair::kFloat)}) {
    options.correction->goal = goal;
    Graph repaired = original;
    const NetworkReport report = quantize_network(repaired, options, &data);
    const CorrectionReport& done = *report.correction;
    EXPECT_TRUE(done.met());
    ASSERT_FALSE(done.repairs.empty());
    EXPECT_GE(done.repairs.back().repair, needed);
    EXPECT_TRUE(done.repairs.back().kept);
    // What is reported is what the network does.
    const at::Tensor x = samples(64, 1), y = run(original, x);
    const double noise_energy = (run(repaired, x) - y).square().sum().item<double>();
    const double sqnr = 10 * std::log10(y.square().sum().item<double>() / noise_energy);
    if (noise_energy > 0) {
      EXPECT_NEAR(sqnr, done.after, 0.01);
    }
    double best = done.before;
    for (const RepairReport& repair : done.repairs) {
      EXPECT_EQ(repair.before, best);
      if (repair.kept) best = repair.after;
    }
    EXPECT_GT(best, last);
    last = best;
  }
}

TEST(CorrectLayers, PrecisionStaysThoughTheMeasureFalls) {
  const Graph original = network().graph;
  const at::Tensor x = samples(64, 1);
  const auto data = batches_of({x});
  NetworkOptions options = bits(2, 8);
  options.rounding.iterations = 50;
  options.correction.emplace().goal = 0;
  // Every change looks worse than the one before, until the network is the float one to the bit.
  int asked = 0;
  options.correction->measure = [&](const Graph& graph) {
    return at::equal(run(graph, x), run(original, x)) ? 1.0 : -++asked;
  };
  Graph repaired = original;
  const NetworkReport report = quantize_network(repaired, options, &data);
  EXPECT_TRUE(report.correction->met());
  EXPECT_EQ(count(repaired, "DequantizeLinear"), 0);
  for (const RepairReport& repair : report.correction->repairs)
    EXPECT_EQ(repair.kept, repair.repair >= Repair::kInt8);
  Json recipe = options_to_json(options);
  add_repairs(report, recipe);
  EXPECT_EQ(recipe["precision"], "float");
  EXPECT_EQ(recipe["bias_correct"], false);
  EXPECT_EQ(precisions_of(report), "float");
}

// What was taken off a bias was fitted to codes: it goes with them.
TEST(CorrectLayers, CorrectedBiasesFollowTheLayers) {
  const Graph original = network().graph;
  const at::Tensor x = samples(64, 1);
  const auto data = batches_of({x});
  NetworkOptions options = bits(2, 8);
  options.rounding.iterations = 50;
  options.correction.emplace().goal = 4;
  // Biases are welcome at first, and then every layer but the last is wanted in float.
  int asked = 0;
  options.correction->measure = [&](const Graph& graph) {
    const int pairs = count(graph, "DequantizeLinear");
    return pairs <= 2 ? 4.0 : pairs == 6 && ++asked <= 4 ? 0.1 * asked : 0.0;
  };
  Graph repaired = original;
  const NetworkReport report = quantize_network(repaired, options, &data);
  ASSERT_TRUE(report.correction->met());
  Json recipe = options_to_json(options);
  add_repairs(report, recipe);
  EXPECT_EQ(recipe["precision"], "mixed");
  EXPECT_EQ(recipe["bias_correct"], true);
  int corrected = 0;
  for (const NetworkLayerReport& layer : report.layers) {
    const auto& standing = report.correction->standing.at(layer.name);
    corrected += standing.front() == Repair::kBias;
    EXPECT_EQ(standing.front() == Repair::kBias, !layer.precision.is_float()) << layer.name;
    EXPECT_EQ(recipe["layers"][layer.name], to_string(layer.precision));
  }
  EXPECT_EQ(corrected, 1);
  // The correction that is left is that of a network with this layer alone in codes.
  std::vector<NetworkLayer> left;
  for (const NetworkLayer& layer : find_layers(original, {8, 8, false}))
    if (report.correction->standing.at(layer.name).front() == Repair::kBias) left.push_back(layer);
  const auto remaining = correct_biases(original, repaired, left, data, 64, true);
  ASSERT_EQ(remaining.size(), 1u);
  for (const auto& [layer, shift] : remaining)
    EXPECT_LT(shift.abs().max().item<double>(), 1e-5) << layer;
}

TEST(CorrectLayers, AMeasureOfTheCallersDecides) {
  const Graph original = network().graph;
  const auto data = batches_of({samples(16, 1)});
  NetworkOptions options = bits(2, 8);
  options.rounding.iterations = 50;
  options.correction.emplace().goal = 3;
  options.correction->measure = [](const Graph& graph) {
    return 6.0 - count(graph, "DequantizeLinear");
  };
  // Every repair but the return to float leaves the number of Q/DQ pairs (6 at first) as it is.
  Graph repaired = original;
  const NetworkReport report = quantize_network(repaired, options, &data);
  EXPECT_TRUE(report.correction->met());
  EXPECT_EQ(report.layers[0].precision.is_float() + report.layers[1].precision.is_float() +
                report.layers[2].precision.is_float(),
            2);
}

TEST(Dynamic, WorkedExample) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 2});
  net.returns({net.op("MatMul", {x, net.constant(tensor({1.27f, -2.54f, 0.35f, 1.0f}, {2, 2}))})});
  NetworkOptions options;
  options.dynamic = true;
  options.scales = ScaleMethod::kAbsMax;
  options.quiet = true;
  quantize_network(net.graph, options, nullptr);
  // Range -0.55 to 2: scale 0.01, zero point 55; 0.504 -> 0.5.
  const at::Tensor y = run(net.graph, tensor({-0.55f, 2.0f, 0.504f, 0}, {2, 2}));
  EXPECT_TRUE(test::close(
      y,
      tensor({-0.55f * 1.27f + 2 * 0.35f, 0.55f * 2.54f + 2, 0.5f * 1.27f, -0.5f * 2.54f}, {2, 2}),
      2e-5));
}

TEST(Dynamic, EveryFormIsNearTheFloatNetwork) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 4, 7, 7});
  const ValueId a = net.op("Conv",
                           {x, net.constant(noise({6, 2, 3, 3}, 1)), net.constant(noise({6}, 2))},
                           {{"group", int64_t{2}},
                            {"pads", std::vector<int64_t>{1, 1, 1, 1}},
                            {"strides", std::vector<int64_t>{2, 2}}}),
                b = net.op("Conv", {x, net.constant(noise({6, 4, 1, 1}, 3))},
                           {{"strides", std::vector<int64_t>{2, 2}}});
  const ValueId sum = net.op("Flatten", {net.op("Add", {a, b})});
  const ValueId first =
      net.op("Gemm", {sum, net.constant(noise({5, 96}, 4)), net.constant(noise({5}, 5))},
             {{"transB", int64_t{1}}, {"alpha", 0.5}, {"beta", 3.0}});
  net.returns({net.op("MatMul", {first, net.constant(noise({5, 3}, 6))})});
  const Graph original = net.graph;
  NetworkOptions options;
  options.dynamic = true;
  const NetworkReport report = quantize_network(net.graph, options, nullptr);
  EXPECT_EQ(count(net.graph, "DynamicQuantizeLinear"), 3);  // x once for two layers
  EXPECT_EQ(count(net.graph, "ConvInteger") + count(net.graph, "MatMulInteger"), 4);
  EXPECT_EQ(count(net.graph, "Conv") + count(net.graph, "Gemm") + count(net.graph, "MatMul"), 0);
  EXPECT_EQ(report.layers.size(), 4u);
  const at::Tensor input = noise({3, 4, 7, 7}, 8), y = run(original, input);
  EXPECT_LT(error(net.graph, original, input), 1e-3 * y.square().mean().item<double>());
}

TEST(Dynamic, WeightsInF16AreStoredSo) {
  SmallNet net;
  const ValueId x = net.input("x", {graph::Dim("n"), 4});
  const ValueId first = net.op("MatMul", {x, net.constant(noise({4, 5}, 1))});
  net.returns({net.op("MatMul", {first, net.constant(noise({5, 3}, 2))})});
  NetworkOptions options;
  options.dynamic = true;
  options.overrides = {parse_precision_rule(net.graph.node(1).name + "=f16", {})};
  quantize_network(net.graph, options, nullptr);
  EXPECT_EQ(count(net.graph, "MatMulInteger"), 1);
  const auto half = net.graph.find("w2_f16");
  ASSERT_TRUE(half.has_value());
  EXPECT_EQ(std::get<at::Tensor>(*net.graph.value(*half).weight).scalar_type(), at::kHalf);
  EXPECT_FALSE(net.graph.find("w2").has_value());
  const Json recipe = options_to_json(options);  // nothing that had no effect
  EXPECT_FALSE(recipe.contains("observer") || recipe.contains("symmetric_activations"));
}

TEST(Dynamic, LayersWithoutAnIntegerFormStayFloatAndAreNamed) {
  SmallNet product;
  const ValueId p = product.input("x", {2, 4, 4});
  product.returns({product.op("MatMul", {p, p})});
  NetworkOptions options;
  options.dynamic = true;
  const NetworkReport report = quantize_network(product.graph, options, nullptr);
  EXPECT_EQ(count(product.graph, "MatMul"), 1);
  ASSERT_EQ(report.notices.size(), 1u);
  EXPECT_NE(report.notices[0].find(report.layers[0].name), std::string::npos);
  EXPECT_TRUE(report.layers[0].precision.is_float());
}

}  // namespace
}  // namespace packlight::quantize

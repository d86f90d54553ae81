#include "quantize/sensitivity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "error_code.h"
#include "exec/small_net.h"

namespace packlight::quantize {
namespace {

using test::expect_error;
using test::noise;
using test::SmallNet;
using test::tensor;

calib::Batches one_batch(at::Tensor x) {
  return [x](const std::function<bool(const calib::Inputs&)>& use) { use({{"x", x}}); };
}

// Three products, the middle one of weights that two bits hold exactly and the last one's columns
// of very unequal weights.
SmallNet three_products() {
  SmallNet net;
  const graph::ValueId x = net.input("x", {graph::Dim("n"), 4});
  const at::Tensor exact = at::eye(4) - at::ones({4, 4});  // 0 and -1
  const graph::ValueId first = net.op("MatMul", {x, net.constant(noise({4, 4}, 1))}),
                       second = net.op("MatMul", {first, net.constant(exact)});
  net.returns({net.op("MatMul", {second, net.constant(noise({4, 4}, 2).pow(5))})});
  return net;
}

TEST(Sensitivity, SaysWhichLayerCostsMost) {
  const SmallNet net = three_products();
  NetworkOptions options;
  options.precision = {2, 0};
  options.quiet = true;
  // Names of layers are taken literally, whatever a glob would make of them.
  graph::Graph graph = net.graph;
  graph.node(0).name = "a[1]*";
  int measured = 0;
  const auto table =
      measure_sensitivity(graph, options, one_batch(noise({64, 4}, 3)), [&](const graph::Graph& g) {
        ++measured;
        EXPECT_EQ(test::count(g, "DequantizeLinear"), 1);
        return -0.25;
      });
  ASSERT_EQ(table.size(), 3u);
  EXPECT_EQ(measured, 3);
  EXPECT_EQ(table[0].layer, "a[1]*");
  EXPECT_EQ(table[0].metric_change, -0.25);
  EXPECT_EQ(table[1].output_sqnr_db, std::numeric_limits<double>::infinity());
  EXPECT_EQ(table[1].sensitivity, 0);
  const double least = std::min(table[0].output_sqnr_db, table[2].output_sqnr_db);
  for (const size_t i : {0, 2}) {
    EXPECT_GT(table[i].output_sqnr_db, 0);
    EXPECT_LT(table[i].output_sqnr_db, 30);
    EXPECT_EQ(table[i].sensitivity, table[i].output_sqnr_db == least ? 1 : 0);
  }
}

TEST(Sensitivity, ALayerThatDestroysTheNetworkHasTheMost) {
  // A reciprocal of what rounds to 0: infinity, whatever the layer behind it does.
  SmallNet net;
  const graph::ValueId x = net.input("x", {graph::Dim("n"), 2});
  const graph::ValueId first =
      net.op("MatMul", {x, net.constant(tensor({1, 0, 0, 1e-3f}, {2, 2}))});
  const graph::ValueId inverse = net.op("Reciprocal", {first});
  net.returns({net.op("MatMul", {inverse, net.constant(noise({2, 2}, 2))})});
  NetworkOptions options;
  options.precision = {4, 0};
  options.per_tensor = true;
  options.quiet = true;
  const auto table = measure_sensitivity(net.graph, options, one_batch(tensor({1, 1}, {1, 2})));
  EXPECT_EQ(table[0].output_sqnr_db, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(table[0].sensitivity, 1);
  EXPECT_LT(table[1].sensitivity, 1);
}

TEST(Sensitivity, ThresholdsGivePrecisions) {
  const std::vector<LayerSensitivity> table = {
      {"a", 1, {}, 0.8}, {"b", 2, {}, 0.79}, {"c", 3, {}, 0.5}, {"d*", 4, {}, 0.49}};
  // Through the file's form and back.
  const auto read = sensitivity_from_json({{"layers", sensitivity_to_json(table)}}, "t.json");
  const auto rules = precision_rules(read, {8, 8, false});
  ASSERT_EQ(rules.size(), 4u);
  EXPECT_EQ(to_string(rules[0].precision), "f16");
  EXPECT_EQ(to_string(rules[1].precision), "w8a8");
  EXPECT_EQ(to_string(rules[2].precision), "w8a8");
  EXPECT_EQ(to_string(rules[3].precision), "w4a8");
  EXPECT_EQ(rules[3].pattern, "d\\*");
}

TEST(Sensitivity, RefusesOtherTables) {
  for (const Json& json : {Json::array(), Json{{"layers", 3}}, Json{{"layers", {{{"layer", 3}}}}},
                          Json{{"layers", {{{"layer", "a"}}}}}}) {
    expect_error(ErrorCode::kCorrupt, {"'t.json'", "layers"},
                 [&] { sensitivity_from_json(json, "t.json"); });
  }
}

}  // namespace
}  // namespace packlight::quantize

#include "prune/spread.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "error_code.h"
#include "exec/executor.h"
#include "tiny_language_model.h"

namespace packlight::prune {
namespace {

TEST(OwlRatios, BlocksWithMoreOutliersLoseLess) {
  const std::vector<BlockOutliers> blocks = {{0.01, 100}, {0.03, 100}, {0.02, 100}};
  const std::vector<double> ratios = owl_ratios(blocks, 0.5, {5, 0.08});
  EXPECT_NEAR(ratios[0], 0.58, 1e-12);
  EXPECT_NEAR(ratios[1], 0.42, 1e-12);
  EXPECT_NEAR(ratios[2], 0.50, 1e-12);
}

TEST(OwlRatios, TheWholeLosesTheRatioWhateverTheSizes) {
  const std::vector<BlockOutliers> blocks = {{0.01, 1000}, {0.04, 100}, {0.02, 10}};
  double gone = 0;
  const std::vector<double> ratios = owl_ratios(blocks, 0.7, {5, 0.1});
  for (size_t b = 0; b < 3; ++b) gone += ratios[b] * static_cast<double>(blocks[b].weights);
  EXPECT_NEAR(gone, 0.7 * 1110, 1e-9);
}

TEST(OwlRatios, EqualBlocksLoseTheSame) {
  const std::vector<BlockOutliers> blocks = {{0.02, 100}, {0.02, 50}};
  EXPECT_EQ(owl_ratios(blocks, 0.3, {}), (std::vector<double>{0.3, 0.3}));
}

TEST(OwlRatios, SharesBeyondAllOrNothingAreErrors) {
  const std::vector<BlockOutliers> blocks = {{0.01, 100}, {0.03, 100}};
  for (const double ratio : {0.05, 0.95}) {
    test::expect_error(ErrorCode::kInvalidArgument,
                       {std::to_string(ratio).substr(0, 4), "outliers"},
                       [&] { owl_ratios(blocks, ratio, {}); });
  }
}

TEST(SpreadByOutliers, FindsTheBlockThatHasThem) {
  auto model = test::tiny_model(test::tiny_config());
  const std::string up = "model.layers.1.mlp.up_proj.weight";
  at::Tensor w = exec::dense_weight(*model.graph.value(*model.graph.find(up)).weight).clone();
  w.slice(0, 0, 20).mul_(30);
  model.graph.value(*model.graph.find(up)).weight = w;
  calib::CalibrationTokens text;
  text.window = 16;
  for (int i = 0; i < 64; ++i) text.ids.push_back(i * 7 % 40);
  const std::vector<LayerGroup> groups = layer_groups(model.graph);
  const auto ratios =
      spread_by_outliers(model.graph, groups, text, {uint64_t{1} << 30, {}}, 0.5, {}, true);
  ASSERT_EQ(ratios.size(), 8u);  // of each block query, key and value; output; gate and up; down
  for (size_t g = 0; g < 8; ++g)
    EXPECT_NEAR(ratios[g], groups[g].block == "model.layers.0" ? 0.58 : 0.42, 1e-12) << g;
}

}  // namespace
}  // namespace packlight::prune

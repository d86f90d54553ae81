#include "prune/spread.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "base/fail.h"
#include "base/progress.h"
#include "calib/input_statistics.h"
#include "exec/executor.h"

namespace packlight::prune {
namespace {

// |w| ||x|| of a layer, in units in which the norm is the root of the mean over tokens.
at::Tensor outlier_scores(const graph::Graph& graph, graph::ValueId weight, const std::vector<double>& mean_square) {
  const at::Tensor norms = at::tensor(mean_square).sqrt().to(at::kFloat);
  return exec::dense_weight(*graph.value(weight).weight).abs().mul(norms);
}

BlockOutliers count_outliers(const graph::Graph& graph, const std::vector<graph::ValueId>& weights,
                             const calib::MeanSquares& mean_squares, double outlier) {
  BlockOutliers out;
  double sum = 0;
  std::vector<at::Tensor> scores;
  for (const graph::ValueId weight : weights) {
    scores.push_back(outlier_scores(graph, weight, mean_squares.at(weight)));
    sum += scores.back().sum(at::kDouble).item<double>();
    out.weights += scores.back().numel();
  }
  const double threshold = outlier * sum / static_cast<double>(out.weights);
  for (const at::Tensor& layer : scores) out.share += layer.gt(threshold).sum().item<double>();
  out.share /= static_cast<double>(out.weights);
  return out;
}

}  // namespace

std::vector<double> owl_ratios(std::span<const BlockOutliers> blocks, double ratio, const OwlOptions& options) {
  const auto [least, most] =
      std::minmax_element(blocks.begin(), blocks.end(), [](const auto& a, const auto& b) { return a.share < b.share; });
  const double range = most->share - least->share;
  std::vector<double> shares;
  double weights = 0, sum = 0;
  for (const BlockOutliers& block : blocks) {
    shares.push_back(range > 0 ? 2 * options.limit * (most->share - block.share) / range : 0);
    weights += static_cast<double>(block.weights);
    sum += shares.back() * static_cast<double>(block.weights);
  }
  for (double& share : shares) {
    share += ratio - sum / weights;
    if (share > 0 && share < 1) continue;
    fail(ErrorCode::kInvalidArgument,
         "[prune] ratio {}: spread by outliers a block would lose {:.4f} of its weights; it must lie between 0 and 1", ratio,
         share);
  }
  return shares;
}

std::vector<double> spread_by_outliers(const graph::Graph& graph, const std::vector<LayerGroup>& groups,
                                       const calib::CalibrationTokens& tokens, const calib::StreamOptions& stream, double ratio,
                                       const OwlOptions& options, bool quiet) {
  std::map<std::string, std::vector<graph::ValueId>> weights;
  for (const LayerGroup& group : groups) {
    for (const PrunableLayer& layer : group.layers) weights[group.block].push_back(layer.weight);
  }
  calib::InputStatistics statistics(graph, tokens, stream);
  base::Progress progress("Looking for outliers", statistics.blocks() * statistics.batches());
  progress.set_quiet(quiet);
  std::vector<BlockOutliers> blocks;
  std::map<std::string, size_t> place;
  for (size_t b = 0; b < statistics.blocks() && place.size() < weights.size(); ++b) {
    const calib::MeanSquares means = statistics.run_block(b, [&] { progress.advance(); });
    const auto found = weights.find(statistics.range(b).name);
    if (found == weights.end()) continue;
    place[found->first] = blocks.size();
    blocks.push_back(count_outliers(graph, found->second, means, options.outlier));
  }
  const std::vector<double> shares = owl_ratios(blocks, ratio, options);
  std::vector<double> out;
  for (const LayerGroup& group : groups) out.push_back(shares[place.at(group.block)]);
  return out;
}

}  // namespace packlight::prune

#pragma once

#include <span>
#include <string>
#include <vector>

#include "calib/token_stream.h"
#include "prune/layer_groups.h"

namespace packlight::prune {

// How a share of weights is spread over the layers of a model.
enum class Spread {
  kUniform,  // every matrix loses the same share
  kOwl,      // blocks with more outliers keep more
};

struct OwlOptions {
  double outlier = 5;   // M: a weight whose |w| ||x|| is above this many times the block's mean is an outlier
  double limit = 0.08;  // lambda: the shares of two blocks differ by at most twice this
};

// What is known of a block for its share: its share of outliers and how many weights it may lose some of.
struct BlockOutliers {
  double share = 0;
  int64_t weights = 0;
};

// The share that each block loses: 2 limit (share_max - share_b) / (share_max - share_min) + c, with c such that `ratio` of all
// weights go. All equal to `ratio` when no block has more outliers than another.
// Errors: InvalidArgument when a block would lose nothing or all (names both shares).
std::vector<double> owl_ratios(std::span<const BlockOutliers> blocks, double ratio, const OwlOptions& options);

// Runs the tokens through the original model and counts outliers. One entry for each group's block, in the order of `groups`, the
// groups of a block having the same. `quiet`: no progress bar. Source: Yin et al., arXiv:2310.05175.
// Cost: a forward pass of the tokens, and a look at every weight. Errors: those of calib::InputStatistics.
std::vector<double> spread_by_outliers(const graph::Graph& graph, const std::vector<LayerGroup>& groups,
                                       const calib::CalibrationTokens& tokens, const calib::StreamOptions& stream, double ratio,
                                       const OwlOptions& options, bool quiet);

}  // namespace packlight::prune

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "train/parameters.h"

namespace packlight::train {

struct LowRankOptions {
  int64_t rank = 16;
  double alpha = 32;                 // what A B is multiplied by is alpha / rank
  std::vector<std::string> targets;  // globs over names of weights; empty: all but the head
  uint64_t seed = 0;
};

// y = x W^T becomes x W^T + alpha/rank x A B, for a product of a graph.
struct Adapter {
  graph::ValueId weight;  // W [outputs, k]
  graph::ValueId a, b;    // A [k, rank], B [rank, outputs]
  double scale;
};

// Adds adapters to the products with a weight (through a Transpose). A is noise of deviation
// 1/sqrt(k), B zero: outputs stay as they are. Ids of values stay, those of nodes change. Source:
// Hu et al., arXiv:2106.09685 (LoRA). Errors: InvalidArgument for a target that matches nothing.
std::vector<Adapter> add_adapters(graph::Graph& graph, const LowRankOptions& options);
// What a trainer changes of them.
std::vector<Parameter> adapter_parameters(const graph::Graph& graph,
                                          const std::vector<Adapter>& adapters);
// W + scale (A B)^T with the A and B of `trained`, into `graph`, which has no adapters. Zeros of
// pruned weights stay.
void merge_adapters(const graph::Graph& trained, const std::vector<Adapter>& adapters,
                    graph::Graph& graph);

}  // namespace packlight::train

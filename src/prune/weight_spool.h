#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <unordered_map>
#include <vector>

#include "base/spool.h"
#include "graph/graph.h"

namespace packlight::prune {

// New dense weights that wait in a scratch file until all are made.
class WeightSpool {
 public:
  // `output`: the file or folder that will hold the model; the scratch file lies beside it.
  explicit WeightSpool(const std::filesystem::path& output);

  // `zeros`: where those of the weight lie. Errors: Io on a full disk.
  void put(graph::ValueId id, const at::Tensor& weight, const graph::ZeroPattern& zeros);
  // Gives the graph its new weights: views of the file, which they keep, marked as pruned. Once, at the end.
  void install(graph::Graph& graph);

 private:
  struct Entry {
    at::ScalarType type;
    std::vector<int64_t> shape;
    uint64_t offset;
    graph::ZeroPattern zeros;
  };
  base::Spool spool_;
  std::unordered_map<graph::ValueId, Entry> entries_;
};

}  // namespace packlight::prune

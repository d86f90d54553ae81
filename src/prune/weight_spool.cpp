#include "prune/weight_spool.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "graph/weight.h"

namespace packlight::prune {
namespace {

// A name beside the output that nothing has: the output itself may be a folder.
std::filesystem::path scratch_beside(std::filesystem::path output) {
  if (!output.has_filename()) output = output.parent_path();
  return output.parent_path() / fmt::format(".{}.weights", output.filename().string());
}

}  // namespace

WeightSpool::WeightSpool(const std::filesystem::path& output) : spool_(scratch_beside(output)) {}

void WeightSpool::put(graph::ValueId id, const at::Tensor& weight, const graph::ZeroPattern& zeros) {
  const at::Tensor dense = weight.contiguous();
  const std::span<const std::byte> bytes{static_cast<const std::byte*>(dense.data_ptr()), dense.nbytes()};
  entries_[id] = {dense.scalar_type(), dense.sizes().vec(), spool_.append(bytes), zeros};
}

void WeightSpool::install(graph::Graph& graph) {
  const auto file = spool_.finish();
  for (const auto& [id, entry] : entries_) {
    auto* data = const_cast<std::byte*>(file->bytes().data()) + entry.offset;  // nothing writes to weights
    graph::Value& value = graph.value(id);
    value.weight = at::from_blob(
        data, entry.shape, [file](void*) {}, entry.type);
    value.zeros = entry.zeros;
    value.type = graph::weight_type(*value.weight);
  }
}

}  // namespace packlight::prune

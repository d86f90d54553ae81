#include "eval/compare_networks.h"

#include <fmt/format.h>
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "base/fail.h"
#include "graph/weight.h"

namespace packlight::eval {
namespace {

constexpr int64_t kFreeDimension = 64;

at::Tensor random_input(const graph::Value& value, const std::vector<int64_t>& dims,
                        at::Generator& generator) {
  const at::ScalarType type =
      value.type == graph::ElementType::kUndefined ? at::kFloat : graph::to_scalar_type(value.type);
  if (at::isFloatingType(type)) return at::randn(dims, generator).to(type);
  if (type == at::kBool) return at::randint(2, dims, generator).to(type);
  return at::randint(4, dims, generator).to(type);
}

std::vector<int64_t> dims_of(const graph::Value& value,
                             const std::map<std::string, std::vector<int64_t>>& shapes) {
  const auto given = shapes.find(value.name);
  if (given != shapes.end()) return given->second;
  if (!value.shape)
    fail(ErrorCode::kInvalidArgument,
         "[verify] the shape of input '{}' is not known: give it (--input-shape)", value.name);
  std::vector<int64_t> dims;
  for (const graph::Dim& dim : *value.shape)
    dims.push_back(dim.known() ? dim.value : dims.empty() ? 1 : kFreeDimension);
  return dims;
}

double difference_of(const at::Tensor& a, const at::Tensor& b, const std::string& name) {
  if (a.sizes() != b.sizes()) {
    fail(ErrorCode::kInvalidArgument, "[verify] output '{}' has shape [{}], the original's [{}]",
         name, fmt::join(a.sizes().begin(), a.sizes().end(), ", "),
         fmt::join(b.sizes().begin(), b.sizes().end(), ", "));
  }
  if (a.numel() == 0) return 0;
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  if (!at::equal(at::isfinite(x), at::isfinite(y)))
    fail(ErrorCode::kInvalidArgument,
         "[verify] output '{}' is not finite where the original's is, or the other way round",
         name);
  const at::Tensor finite = at::isfinite(y);
  if (!finite.any().item<bool>()) return 0;
  const double largest = at::where(finite, at::abs(x - y), at::zeros_like(x)).max().item<double>();
  const at::Tensor values = y.masked_select(finite);
  const double range = values.max().item<double>() - values.min().item<double>();
  return range > 0 ? largest / range : largest;
}

}  // namespace

NetworkDifference compare_networks(const NetworkSubject& network, const NetworkSubject& reference,
                                   const std::map<std::string, std::vector<int64_t>>& shapes,
                                   uint64_t seed) {
  const graph::Graph &graph = *network.graph, &original = *reference.graph;
  if (graph.inputs.size() != original.inputs.size() ||
      graph.outputs.size() != original.outputs.size()) {
    fail(ErrorCode::kInvalidArgument,
         "[verify] '{}' has {} inputs and {} outputs, the original {} and {}", graph.name,
         graph.inputs.size(), graph.outputs.size(), original.inputs.size(),
         original.outputs.size());
  }
  at::Generator generator = at::detail::createCPUGenerator(seed);
  NetworkSubject::Arrays mine, theirs;
  for (size_t i = 0; i < original.inputs.size(); ++i) {
    const graph::Value& value = original.value(original.inputs[i]);
    if (value.weight) continue;  // it has a value of its own
    const at::Tensor input = random_input(value, dims_of(value, shapes), generator);
    theirs[value.name] = input;
    const auto same_name = graph.find(value.name);
    const bool is_input = same_name && std::find(graph.inputs.begin(), graph.inputs.end(),
                                                 *same_name) != graph.inputs.end();
    mine[is_input ? value.name : graph.value(graph.inputs[i]).name] = input;
  }
  const auto x = network.run(mine), y = reference.run(theirs);
  NetworkDifference result;
  for (size_t i = 0; i < original.outputs.size(); ++i) {
    const std::string& name = original.value(original.outputs[i]).name;
    const double difference =
        difference_of(x.at(graph.value(graph.outputs[i]).name), y.at(name), name);
    if (difference >= result.largest) result = {difference, name};
  }
  return result;
}

}  // namespace packlight::eval

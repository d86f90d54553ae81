#include "quantize/compare_layers.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "base/fail.h"
#include "exec/executor.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::ValueId;

// A network whose run leaves the values of these names behind.
class Watched {
 public:
  Watched(const Graph& graph, const std::vector<std::string>& names)
      : graph_(graph), executor_(graph) {
    for (const std::string& name : names) {
      const auto id = graph.find(name);
      if (!id) continue;
      executor_.keep(*id);
      ids_[name] = *id;
    }
  }

  std::unordered_map<std::string, at::Tensor> run(const calib::Inputs& inputs) {
    exec::Values live;
    for (const ValueId id : graph_.inputs) live[id] = inputs.at(graph_.value(id).name);
    executor_.run_nodes(0, static_cast<graph::NodeId>(graph_.nodes().size()), live);
    std::unordered_map<std::string, at::Tensor> found;
    for (const auto& [name, id] : ids_)
      if (const auto it = live.find(id); it != live.end()) found[name] = it->second;
    return found;
  }

 private:
  const Graph& graph_;
  exec::Executor executor_;
  std::unordered_map<std::string, ValueId> ids_;
};

struct Energies {
  double signal = 0, noise = 0;
};

}  // namespace

std::unordered_map<std::string, double> signal_to_noise(const Graph& original,
                                                        const Graph& quantized,
                                                        const std::vector<std::string>& values,
                                                        const calib::Batches& batches,
                                                        int64_t samples) {
  Watched exact(original, values), rounded(quantized, values);
  std::unordered_map<std::string, Energies> energies;
  batches([&](const calib::Inputs& inputs) {
    const auto want = exact.run(inputs), got = rounded.run(inputs);
    for (const auto& [name, y] : want) {
      const auto it = got.find(name);
      if (it == got.end() || it->second.sizes() != y.sizes()) continue;
      Energies& e = energies[name];
      e.signal += y.to(at::kDouble).square().sum().item<double>();
      e.noise += (y - it->second).to(at::kDouble).square().sum().item<double>();
    }
    samples -= calib::sample_count(inputs);
    return samples > 0;
  });
  std::unordered_map<std::string, double> ratios;
  for (const auto& [name, e] : energies) {
    ratios[name] =
        e.noise > 0 ? 10 * std::log10(e.signal / e.noise) : std::numeric_limits<double>::infinity();
  }
  return ratios;
}

}  // namespace packlight::quantize

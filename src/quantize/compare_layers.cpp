#include "quantize/compare_layers.h"

#include <ATen/ATen.h>

#include <algorithm>
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

  void add(const at::Tensor& want, const at::Tensor& got) {
    if (got.sizes() != want.sizes()) return lose();
    const at::Tensor y = want.to(at::kDouble), rounded = got.to(at::kDouble);
    const at::Tensor finite = at::isfinite(y);
    const at::Tensor both_nan = at::isnan(y).logical_and(at::isnan(rounded));
    const at::Tensor same = y.eq(rounded).logical_or(both_nan);
    if (!same.logical_or(finite.logical_and(at::isfinite(rounded))).all().item<bool>())
      return lose();
    signal += y.masked_fill(finite.logical_not(), 0).square().sum().item<double>();
    noise += (y - rounded).masked_fill(same, 0).square().sum().item<double>();
  }

 private:
  void lose() { noise = std::numeric_limits<double>::infinity(); }
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
      if (it != got.end()) energies[name].add(y, it->second);
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

double output_signal_to_noise(const Graph& original, const Graph& quantized,
                              const calib::Batches& batches, int64_t samples) {
  std::vector<std::string> outputs;
  for (const ValueId id : original.outputs) outputs.push_back(original.value(id).name);
  const auto ratios = signal_to_noise(original, quantized, outputs, batches, samples);
  if (ratios.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[quantize] '{}': no output to compare with the float network's: none is computed from "
         "the samples",
         original.name);
  }
  return std::min_element(ratios.begin(), ratios.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->second;
}

}  // namespace packlight::quantize

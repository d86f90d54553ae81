#include "quantize/equalize.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "graph/weight.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

constexpr double kSettled = 1.01;
// Of the largest channel of a layer; a channel below is dead.
constexpr double kLeastShare = 1e-4;

class Equalizer {
 public:
  explicit Equalizer(Graph& graph)
      : graph_(graph), uses_(graph.values().size(), 0), user_(graph.values().size(), -1) {
    for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes().size()); ++id) {
      for (const ValueId input : graph.node(id).inputs)
        if (input != graph::kNone) ++uses_[input], user_[input] = id;
    }
    for (const ValueId output : graph.outputs) ++uses_[output];
  }

  struct Pair {
    NodeId first, second;
  };

  std::vector<Pair> pairs() const {
    std::vector<Pair> found;
    for (NodeId id = 0; id < static_cast<NodeId>(graph_.nodes().size()); ++id) {
      if (!is_layer(id, /*makes=*/true)) continue;
      if (const auto next = follower(id)) found.push_back({id, *next});
    }
    return found;
  }

  // Scales the channels between two layers; returns the largest factor either way.
  double scale(const Pair& pair) {
    const Node &first = graph_.node(pair.first), &second = graph_.node(pair.second);
    const at::Tensor w1 = tensor(first.inputs[1]), w2 = tensor(second.inputs[1]);
    const int64_t made = out_axis(first), taken = in_axis(second);
    if (w1.size(made) != w2.size(taken)) return 1;
    const at::Tensor r1 = largest(w1, made), r2 = largest(w2, taken);
    const at::Tensor usable = at::logical_and(alive(r1), alive(r2));
    const at::Tensor s = at::where(usable, at::sqrt(r1 / r2), at::ones_like(r1));
    set(first.inputs[1], w1 / along(s, w1, made));
    set(second.inputs[1], w2 * along(s, w2, taken));
    if (has_bias(first)) set(first.inputs[2], tensor(first.inputs[2]) / s);
    return std::max(s.max().item<double>(), 1 / s.min().item<double>());
  }

 private:
  bool is_own_constant(ValueId id) const {
    if (id == graph::kNone || !graph_.value(id).weight || uses_[id] != 1) return false;
    const auto* dense = std::get_if<at::Tensor>(&*graph_.value(id).weight);
    return dense != nullptr && at::isFloatingType(dense->scalar_type());
  }
  bool has_bias(const Node& node) const {
    return node.inputs.size() > 2 && node.inputs[2] != graph::kNone;
  }

  bool is_layer(NodeId id, bool makes) const {
    const Node& node = graph_.node(id);
    const bool conv = node.op == "Conv", gemm = node.op == "Gemm";
    if (!node.domain.empty() || (!conv && !gemm) || !is_own_constant(node.inputs[1])) return false;
    const std::vector<int64_t> shape = graph::weight_shape(*graph_.value(node.inputs[1]).weight);
    if (gemm && (node.integer("transA", 0) != 0 || shape.size() != 2)) return false;
    const int64_t groups = conv ? node.integer("group", 1) : 1;
    if (groups != 1 && !(shape[1] == 1 && shape[0] == groups)) return false;
    if (!makes || !has_bias(node)) return true;
    return is_own_constant(node.inputs[2]) && tensor(node.inputs[2]).dim() == 1 &&
           tensor(node.inputs[2]).numel() == shape[out_axis(node)];
  }

  int64_t out_axis(const Node& node) const {
    return node.op == "Gemm" && node.integer("transB", 0) == 0 ? 1 : 0;
  }
  int64_t in_axis(const Node& node) const {
    if (node.op == "Gemm") return 1 - out_axis(node);
    return node.integer("group", 1) != 1 ? 0 : 1;
  }

  // The layer that alone takes what this one makes.
  std::optional<NodeId> follower(NodeId id) const {
    static const std::set<std::string_view> homogeneous = {
        "Relu",        "LeakyRelu",         "PRelu",         "MaxPool",
        "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity"};
    while (true) {
      const ValueId made = graph_.node(id).outputs[0];
      if (uses_[made] != 1 || user_[made] < 0) return std::nullopt;
      id = user_[made];
      const Node& user = graph_.node(id);
      if (user.inputs[0] != made) return std::nullopt;
      if (is_layer(id, /*makes=*/false)) return id;
      if (!user.domain.empty() || homogeneous.count(user.op) == 0 || user.outputs.size() != 1)
        return std::nullopt;
      if (user.op == "PRelu" && !graph_.value(user.inputs[1]).weight) return std::nullopt;
    }
  }

  at::Tensor tensor(ValueId id) const {
    return std::get<at::Tensor>(*graph_.value(id).weight).to(at::kFloat);
  }
  void set(ValueId id, const at::Tensor& tensor) {
    graph_.value(id).weight = tensor.contiguous();
    graph_.value(id).type = graph::ElementType::kF32;
  }
  static at::Tensor largest(const at::Tensor& w, int64_t axis) {
    return w.abs().movedim(axis, 0).reshape({w.size(axis), -1}).amax(1);
  }
  static at::Tensor alive(const at::Tensor& r) {
    return at::logical_and(r > 0, r >= kLeastShare * r.max());
  }
  static at::Tensor along(const at::Tensor& s, const at::Tensor& w, int64_t axis) {
    std::vector<int64_t> shape(w.dim(), 1);
    shape[axis] = s.numel();
    return s.reshape(shape);
  }

  Graph& graph_;
  std::vector<int> uses_;
  std::vector<NodeId> user_;
};

}  // namespace

EqualizeReport equalize(Graph& graph, int rounds) {
  Equalizer equalizer(graph);
  const auto pairs = equalizer.pairs();
  EqualizeReport report;
  report.pairs = static_cast<int>(pairs.size());
  for (int round = 0; round < rounds; ++round) {
    double largest = 1;
    for (const auto& pair : pairs) largest = std::max(largest, equalizer.scale(pair));
    report.largest_factor = std::max(report.largest_factor, largest);
    if (largest < kSettled) break;
  }
  return report;
}

}  // namespace packlight::quantize

#include "quantize/smooth.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "base/fail.h"
#include "exec/executor.h"

namespace packlight::quantize {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

constexpr double kLeastShare = 1e-3;  // of the largest channel
constexpr double kSettled = 1.01;

// A layer that reads a value, by the axes of its weight.
struct Reader {
  NodeId node;
  int64_t in_axis, out_axis;
  int64_t repeat;  // elements of in_axis for each channel: more than 1 where maps share a channel
  bool depthwise;
};

struct Site {
  ValueId value;
  bool last_axis;  // where the value's channels lie: else axis 1
  std::vector<Reader> readers;
  at::Tensor largest;  // [channels], max|x_c| over the calibration batches
};

class Smoother {
 public:
  Smoother(Graph& graph, const SmoothOptions& options)
      : graph_(graph), options_(options), uses_(graph.values().size(), 0) {
    for (const Node& node : graph.nodes())
      for (const ValueId input : node.inputs)
        if (input != graph::kNone) ++uses_[input];
    for (const ValueId output : graph.outputs) ++uses_[output];
  }

  SmoothReport run(const calib::Batches& batches) {
    find_sites();
    observe(batches);
    for (const Site& site : sites_) scale(site);
    if (!inserted_.empty()) insert();
    return report_;
  }

 private:
  void find_sites() {
    std::map<ValueId, Site> sites;
    for (NodeId id = 0; id < static_cast<NodeId>(graph_.nodes().size()); ++id) {
      const auto reader = reader_of(id);
      if (!reader) continue;
      const bool last = graph_.node(id).op != "Conv";
      Site& site =
          sites
              .try_emplace(graph_.node(id).inputs[0], Site{graph_.node(id).inputs[0], last, {}, {}})
              .first->second;
      if (site.last_axis == last) site.readers.push_back(*reader);
    }
    for (auto& [value, site] : sites)
      if (!graph_.value(value).weight) sites_.push_back(std::move(site));
  }

  std::optional<Reader> reader_of(NodeId id) const {
    const Node& node = graph_.node(id);
    const bool conv = node.op == "Conv", gemm = node.op == "Gemm", matmul = node.op == "MatMul";
    if (!node.domain.empty() || !(conv || gemm || matmul) || !own_constant(node.inputs[1]))
      return {};
    const at::Tensor w = tensor(node.inputs[1]);
    if (conv) {
      const int64_t groups = node.integer("group", 1);
      if (groups == 1) return Reader{id, 1, 0, 1, false};
      if (w.size(1) != 1) return {};
      return Reader{id, 0, 0, w.size(0) / groups, true};
    }
    if (w.dim() != 2 || (gemm && node.integer("transA", 0) != 0)) return {};
    const bool transposed = gemm && node.integer("transB", 0) != 0;
    return Reader{id, transposed ? 1 : 0, transposed ? 0 : 1, 1, false};
  }

  // The largest magnitude of each channel, seen where the first reader reads it.
  void observe(const calib::Batches& batches) {
    std::map<const Node*, Site*> watched;
    for (Site& site : sites_) watched[&graph_.node(site.readers[0].node)] = &site;
    exec::Executor executor(graph_);
    const exec::NodeObserver look = [&](const Node& node, std::span<const at::Tensor> inputs) {
      const auto it = watched.find(&node);
      if (it == watched.end() || inputs[0].numel() == 0) return;
      Site& site = *it->second;
      const int64_t axis = site.last_axis ? inputs[0].dim() - 1 : 1;
      const at::Tensor seen = inputs[0].to(at::kFloat).movedim(axis, 0).flatten(1).abs().amax(1);
      site.largest = site.largest.defined() ? at::maximum(site.largest, seen) : seen;
    };
    int64_t count = 0;
    batches([&](const calib::Inputs& inputs) {
      executor.run(inputs, look);
      ++count;
      return true;
    });
    if (count == 0) {
      fail(ErrorCode::kInvalidArgument, "[quantize] '{}': there are no calibration samples",
           graph_.name);
    }
  }

  void scale(const Site& site) {
    if (!site.largest.defined()) return;  // no run came here
    if (!at::isfinite(site.largest).all().item<bool>()) {
      fail(ErrorCode::kInvalidArgument,
           "[quantize] value '{}' is not finite in calibration: its channels cannot be scaled",
           graph_.value(site.value).name);
    }
    const at::Tensor factors = factors_of(site);
    const double spread = (factors.max() / factors.min()).item<double>();
    if (spread < kSettled) return;
    for (const Reader& reader : site.readers) {
      const ValueId id = graph_.node(reader.node).inputs[1];
      const at::Tensor w = tensor(id);
      set(id, w * along(factors.repeat_interleave(reader.repeat), w.dim(), reader.in_axis));
    }
    ++report_.values;
    report_.largest_factor = std::max(report_.largest_factor, spread);
    const at::Tensor inverse = factors.reciprocal();
    const int64_t rank = rank_of(site);
    const bool only_readers = uses_[site.value] == static_cast<int>(site.readers.size());
    if (only_readers && take_in(site.value, inverse, rank, site.last_axis ? rank - 1 : 1)) return;
    inserted_.push_back({site, along(inverse, site.last_axis ? 1 : rank, site.last_axis ? 0 : 1)});
    ++report_.multiplications;
  }

  // Of an activation that convolutions read the rank is that of the weight.
  int64_t rank_of(const Site& site) const {
    if (!site.last_axis) return tensor(graph_.node(site.readers[0].node).inputs[1]).dim();
    const auto& shape = graph_.value(site.value).shape;
    return shape ? static_cast<int64_t>(shape->size()) : 0;
  }

  at::Tensor factors_of(const Site& site) const {
    const at::Tensor x = floored(site.largest);
    const bool depthwise = std::all_of(site.readers.begin(), site.readers.end(),
                                       [](const Reader& reader) { return reader.depthwise; });
    at::Tensor factors = x;
    if (!depthwise) {
      at::Tensor r = at::zeros_like(x);
      for (const Reader& reader : site.readers)
        if (!reader.depthwise) r = at::maximum(r, relative_weight(reader));
      factors = x.pow(options_.strength) / floored(r).pow(1 - options_.strength);
    }
    return factors / factors.log().mean().exp();
  }

  at::Tensor relative_weight(const Reader& reader) const {
    const at::Tensor w = tensor(graph_.node(reader.node).inputs[1]).abs();
    const at::Tensor matrix = w.movedim({reader.out_axis, reader.in_axis}, {0, 1})
                                  .reshape({w.size(reader.out_axis), w.size(reader.in_axis), -1})
                                  .amax(2);
    const at::Tensor most = matrix.amax(1, true);
    return (matrix / at::where(most > 0, most, at::ones_like(most))).amax(0);
  }

  static at::Tensor floored(const at::Tensor& x) {
    const double most = x.max().item<double>();
    return most > 0 ? x.clamp_min(most * kLeastShare) : at::ones_like(x);
  }

  // Multiplies the channels of a value that only its readers use, by changing what makes it. rank
  // 0: not known.
  bool take_in(ValueId value, const at::Tensor& factors, int64_t rank, int64_t axis) {
    static const std::set<std::string_view> homogeneous = {
        "Relu",          "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool",
        "GlobalMaxPool", "Identity"};
    const NodeId id = graph_.value(value).producer;
    if (id < 0 || rank < 2 || axis < 0) return false;
    const Node& node = graph_.node(id);
    if (!node.domain.empty() || node.outputs.size() != 1) return false;
    const bool pools = node.op.find("Pool") != std::string::npos;
    if (pools && axis != 1) return false;  // a window mixes the other axes
    if (homogeneous.count(node.op) != 0)
      return uses_[node.inputs[0]] == 1 && take_in(node.inputs[0], factors, rank, axis);
    if (node.op == "Conv" || node.op == "Gemm" || node.op == "MatMul")
      return take_into_layer(node, factors, rank, axis);
    if (node.op == "Mul" || node.op == "Add") return take_into_constant(node, factors, rank, axis);
    if (node.op == "LayerNormalization") return take_into_norm(node, factors, rank, axis);
    return false;
  }

  bool take_into_layer(const Node& node, const at::Tensor& factors, int64_t rank, int64_t axis) {
    const bool conv = node.op == "Conv",
               has_bias = node.inputs.size() > 2 && node.inputs[2] != graph::kNone;
    if (axis != (conv ? 1 : rank - 1) || !own_constant(node.inputs[1])) return false;
    const at::Tensor w = tensor(node.inputs[1]);
    if (!conv && w.dim() != 2) return false;
    const int64_t out = conv || node.integer("transB", 0) != 0 ? 0 : 1;
    if (w.size(out) != factors.numel()) return false;
    if (has_bias && (!own_constant(node.inputs[2]) || tensor(node.inputs[2]).dim() != 1 ||
                     tensor(node.inputs[2]).numel() != factors.numel()))
      return false;
    set(node.inputs[1], w * along(factors, w.dim(), out));
    if (has_bias) set(node.inputs[2], tensor(node.inputs[2]) * factors);
    return true;
  }

  // x * c, x + c and such sums of what may be scaled in turn.
  bool take_into_constant(const Node& node, const at::Tensor& factors, int64_t rank, int64_t axis) {
    const size_t at = own_constant(node.inputs[1]) ? 1 : 0;
    const ValueId constant = node.inputs[at], other = node.inputs[1 - at];
    if (!own_constant(constant) || graph_.value(other).weight) return false;
    const at::Tensor old = tensor(constant);
    if (old.dim() > rank || !spreads(old, factors.numel(), rank, axis)) return false;
    // The other factor decides the shape: the constant must not widen it.
    if (old.numel() != 1 && old.numel() != factors.numel()) return false;
    if (node.op == "Add" && (uses_[other] != 1 || !take_in(other, factors, rank, axis)))
      return false;
    set(constant, old * along(factors, rank - axis, 0));
    return true;
  }

  bool take_into_norm(const Node& node, const at::Tensor& factors, int64_t rank, int64_t axis) {
    const bool has_bias = node.inputs.size() > 2 && node.inputs[2] != graph::kNone;
    const int64_t normalised = node.integer("axis", -1);
    if (axis != rank - 1 || (normalised != -1 && normalised != rank - 1)) return false;
    for (size_t i = 1; i < (has_bias ? 3u : 2u); ++i) {
      if (!own_constant(node.inputs[i]) || tensor(node.inputs[i]).numel() != factors.numel())
        return false;
    }
    for (size_t i = 1; i < (has_bias ? 3u : 2u); ++i)
      set(node.inputs[i], tensor(node.inputs[i]) * factors);
    return true;
  }

  // Whether a constant is one number, or one for each channel, of a value of that rank.
  static bool spreads(const at::Tensor& constant, int64_t channels, int64_t rank, int64_t axis) {
    if (constant.numel() == 1) return true;
    const int64_t at = axis - (rank - constant.dim());
    return at >= 0 && constant.size(at) == channels && constant.numel() == channels;
  }

  struct Multiplication {
    Site site;
    at::Tensor factors;
  };

  // A Mul before the first reader of each site that nothing took in.
  void insert() {
    std::map<NodeId, std::vector<const Multiplication*>> before;
    for (const Multiplication& it : inserted_) before[it.site.readers[0].node].push_back(&it);
    std::vector<Node> nodes;
    std::map<std::pair<NodeId, ValueId>, ValueId> replaced;  // (reader, value)
    for (NodeId id = 0; id < static_cast<NodeId>(graph_.nodes().size()); ++id) {
      if (const auto at = before.find(id); at != before.end()) {
        for (const Multiplication* it : at->second) {
          const Node mul = multiplication(*it, graph_.node(id).block);
          for (const Reader& reader : it->site.readers)
            replaced[{reader.node, it->site.value}] = mul.outputs[0];
          nodes.push_back(mul);
        }
      }
      Node node = graph_.node(id);
      if (const auto it =
              node.inputs.empty() ? replaced.end() : replaced.find({id, node.inputs[0]});
          it != replaced.end())
        node.inputs[0] = it->second;
      nodes.push_back(std::move(node));
    }
    graph_.replace_nodes(std::move(nodes));
    graph::infer_shapes(graph_);
    graph::verify(graph_);
  }

  Node multiplication(const Multiplication& it, const std::string& block) {
    const std::string name = graph_.value(it.site.value).name;
    Node mul;
    graph::Value made;
    made.name = graph_.free_name(name + "_smoothed");
    mul.name = made.name + "/Mul";
    mul.op = "Mul";
    mul.block = block;
    const ValueId factors = graph_.add_weight(graph_.free_name(name + "_smoothing"), it.factors);
    mul.inputs = {it.site.value, factors};
    mul.outputs = {graph_.add_value(std::move(made))};
    return mul;
  }

  bool own_constant(ValueId id) const {
    if (id == graph::kNone || !graph_.value(id).weight || uses_[id] != 1) return false;
    const auto* dense = std::get_if<at::Tensor>(&*graph_.value(id).weight);
    return dense != nullptr && at::isFloatingType(dense->scalar_type());
  }
  at::Tensor tensor(ValueId id) const {
    return std::get<at::Tensor>(*graph_.value(id).weight).to(at::kFloat);
  }
  void set(ValueId id, const at::Tensor& tensor) {
    graph::Value& value = graph_.value(id);
    value.weight = tensor.contiguous();
    value.type = graph::ElementType::kF32;
    value.shape = graph::Shape(tensor.sizes().begin(), tensor.sizes().end());
  }
  // A vector as what broadcasts along `axis` of something of that rank.
  static at::Tensor along(const at::Tensor& vector, int64_t rank, int64_t axis) {
    std::vector<int64_t> shape(rank, 1);
    shape[axis] = vector.numel();
    return vector.reshape(shape);
  }

  Graph& graph_;
  const SmoothOptions& options_;
  std::vector<int> uses_;
  std::vector<Site> sites_;
  std::vector<Multiplication> inserted_;
  SmoothReport report_;
};

}  // namespace

SmoothReport smooth(Graph& graph, const calib::Batches& batches, const SmoothOptions& options) {
  if (!(options.strength >= 0 && options.strength <= 1)) {
    fail(ErrorCode::kInvalidArgument, "[quantize] smoothing of strength {} is not in [0, 1]",
         options.strength);
  }
  return Smoother(graph, options).run(batches);
}

}  // namespace packlight::quantize

#include "train/low_rank.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fnmatch.h>

#include <cmath>

#include "base/fail.h"
#include "exec/executor.h"
#include "graph/weight.h"

namespace packlight::train {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;

// The weight of a product x W^T, of a layer but not of the head.
ValueId factor_of(const Graph& graph, const Node& node) {
  if (node.op != "MatMul" || !node.domain.empty()) return graph::kNone;
  for (const ValueId output : graph.outputs) {
    if (node.outputs[0] == output) return graph::kNone;
  }
  const graph::Value& turned = graph.value(node.inputs[1]);
  if (turned.producer < 0 || graph.node(turned.producer).op != "Transpose") return graph::kNone;
  const ValueId weight = graph.node(turned.producer).inputs[0];
  if (!graph.value(weight).weight || graph::weight_shape(*graph.value(weight).weight).size() != 2)
    return graph::kNone;
  return weight;
}

class AdapterInserter {
 public:
  AdapterInserter(Graph& graph, const LowRankOptions& options)
      : graph_(graph),
        options_(options),
        used_(options.targets.size(), false),
        generator_(at::detail::createCPUGenerator(options.seed)) {}

  std::vector<Adapter> run() {
    const std::vector<Node> nodes = graph_.nodes();
    std::vector<ValueId> factors;
    for (const Node& node : nodes) factors.push_back(factor_of(graph_, node));
    for (size_t i = 0; i < nodes.size(); ++i) {
      nodes_.push_back(nodes[i]);
      if (factors[i] != graph::kNone && wanted(graph_.value(factors[i]).name)) adapt(factors[i]);
    }
    for (size_t i = 0; i < used_.size(); ++i) {
      if (!used_[i])
        fail(ErrorCode::kInvalidArgument, "[finetune] target '{}' matches no weight of a product",
             options_.targets[i]);
    }
    if (adapters_.empty())
      fail(ErrorCode::kInvalidArgument, "[finetune] '{}' has no products to adapt", graph_.name);
    graph_.replace_nodes(std::move(nodes_));
    graph::infer_shapes(graph_);
    graph::verify(graph_);
    return std::move(adapters_);
  }

 private:
  bool wanted(const std::string& name) {
    bool any = options_.targets.empty();
    for (size_t i = 0; i < used_.size(); ++i) {
      if (fnmatch(options_.targets[i].c_str(), name.c_str(), 0) == 0) any = used_[i] = true;
    }
    return any;
  }

  // A new value of the type that a node makes.
  ValueId value(const std::string& name, const Node& like) {
    graph::Value value;
    value.name = graph_.free_name(name);
    value.type = graph_.value(like.outputs[0]).type;
    return graph_.add_value(std::move(value));
  }

  ValueId add(const Node& like, const std::string& op, const std::string& suffix,
              std::vector<ValueId> inputs) {
    Node node;
    node.name = like.name + suffix;
    node.op = op;
    node.inputs = std::move(inputs);
    node.block = like.block;
    node.outputs = {value(node.name, like)};
    nodes_.push_back(node);
    return node.outputs[0];
  }

  // Of the product that is the last of nodes_.
  void adapt(ValueId weight) {
    const std::vector<int64_t> shape = graph::weight_shape(*graph_.value(weight).weight);
    const std::string& name = graph_.value(weight).name;
    const double scale = options_.alpha / static_cast<double>(options_.rank);
    const at::Tensor noise = at::randn({shape[1], options_.rank}, generator_, at::kFloat) /
                             std::sqrt(static_cast<double>(shape[1]));
    const ValueId a = graph_.add_weight(graph_.free_name(name + ".lora_a"), noise);
    const ValueId b =
        graph_.add_weight(graph_.free_name(name + ".lora_b"), at::zeros({options_.rank, shape[0]}));
    const ValueId factor =
        graph_.add_weight(graph_.free_name(name + ".lora_scale"), at::full({}, scale, at::kFloat));
    const size_t at = nodes_.size() - 1;
    const Node product = nodes_[at];
    const ValueId y = product.outputs[0];
    nodes_[at].outputs[0] = value(product.name + ".plain", product);
    const ValueId low = add(product, "MatMul", ".lora_a", {product.inputs[0], a});
    const ValueId scaled = add(product, "Mul", ".lora_scale", {low, factor});
    const ValueId high = add(product, "MatMul", ".lora_b", {scaled, b});
    add(product, "Add", ".lora", {nodes_[at].outputs[0], high});
    nodes_.back().outputs[0] = y;
    adapters_.push_back({weight, a, b, scale});
  }

  Graph& graph_;
  const LowRankOptions& options_;
  std::vector<bool> used_;
  at::Generator generator_;
  std::vector<Node> nodes_;
  std::vector<Adapter> adapters_;
};

}  // namespace

std::vector<Adapter> add_adapters(Graph& graph, const LowRankOptions& options) {
  if (options.rank < 1)
    fail(ErrorCode::kInvalidArgument, "[finetune] rank {}: it must be 1 or more", options.rank);
  return AdapterInserter(graph, options).run();
}

std::vector<Parameter> adapter_parameters(const Graph& graph,
                                          const std::vector<Adapter>& adapters) {
  std::vector<Parameter> parameters;
  for (const Adapter& adapter : adapters) {
    for (const ValueId id : {adapter.a, adapter.b})
      parameters.push_back({id, graph.value(id).name, /*decays=*/true});
  }
  return parameters;
}

void merge_adapters(const Graph& trained, const std::vector<Adapter>& adapters, Graph& graph) {
  for (const Adapter& adapter : adapters) {
    const auto factor = [&](ValueId id) {
      return exec::dense_weight(*trained.value(id).weight).to(at::kDouble);
    };
    graph::Value& value = graph.value(adapter.weight);
    const at::Tensor before = exec::dense_weight(*value.weight);
    at::Tensor after =
        (before + adapter.scale * factor(adapter.a).mm(factor(adapter.b)).t()).to(at::kFloat);
    if (value.zeros) after = after * before.ne(0);
    value.weight = after.contiguous();
    value.type = graph::ElementType::kF32;
  }
}

}  // namespace packlight::train

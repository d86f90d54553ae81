#include "exec/executor.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <limits>

#include "base/fail.h"
#include "base/interrupt.h"
#include "base/mapped_file.h"
#include "exec/dense_weight.h"
#include "exec/operators.h"
#include "graph/weight.h"

namespace packlight::exec {
namespace {

constexpr graph::NodeId kForever = std::numeric_limits<graph::NodeId>::max();

std::span<const std::byte> stored_bytes(const graph::Weight& weight) {
  if (const auto* encoded = std::get_if<codec::EncodedTensor>(&weight)) return encoded->data;
  const auto& tensor = std::get<at::Tensor>(weight);
  return {static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

// A look-up of whole rows in an encoded matrix needs only those rows decoded.
bool gathers_rows(const graph::Graph& graph, const graph::Node& node) {
  if (node.op != "Gather" || !node.domain.empty() || node.integer("axis", 0) != 0) return false;
  const auto& weight = graph.value(node.inputs[0]).weight;
  return weight && std::holds_alternative<codec::EncodedTensor>(*weight);
}

}  // namespace

Executor::Executor(const graph::Graph& graph, ExecOptions options)
    : graph_(graph), options_(options), last_use_(graph.values().size(), -1) {
  for (graph::NodeId id = 0; id < static_cast<graph::NodeId>(graph.nodes().size()); ++id) {
    const graph::Node& node = graph.node(id);
    if (find_operator(node.op, node.domain) == nullptr) {
      fail(ErrorCode::kUnsupported, "[exec] node '{}': operator '{}{}{}' is not implemented",
           node.name, node.domain, node.domain.empty() ? "" : ".", node.op);
    }
    for (const graph::ValueId input : node.inputs) {
      if (input != graph::kNone) last_use_[input] = id;
    }
  }
  for (const graph::ValueId id : graph.outputs) last_use_[id] = kForever;
}

std::unordered_map<std::string, at::Tensor> Executor::run(
    const std::unordered_map<std::string, at::Tensor>& inputs, const NodeObserver& observer) {
  Values live;
  for (const graph::ValueId id : graph_.inputs) {
    const graph::Value& value = graph_.value(id);
    const auto it = inputs.find(value.name);
    if (it == inputs.end())
      fail(ErrorCode::kInvalidArgument, "[exec] input '{}' is missing", value.name);
    live[id] = it->second;
  }
  for (const auto& [name, tensor] : inputs) {
    const auto id = graph_.find(name);
    if (!id || live.find(*id) == live.end()) {
      fail(ErrorCode::kInvalidArgument, "[exec] graph '{}' has no input '{}'", graph_.name, name);
    }
  }
  // Range by range, so that copies of weights go as early as run_nodes() lets them.
  for (const graph::BlockRange& block : graph::blocks(graph_))
    run_nodes(block.begin, block.end, live, observer);
  std::unordered_map<std::string, at::Tensor> outputs;
  for (const graph::ValueId id : graph_.outputs) {
    const graph::Value& value = graph_.value(id);
    outputs[value.name] = value.weight ? weight(id) : live.at(id);
  }
  return outputs;
}

at::Tensor Executor::weight(graph::ValueId id) {
  if (const auto it = parameters_.find(id); it != parameters_.end()) return it->second;
  if (const auto it = weights_.find(id); it != weights_.end()) return it->second;
  return weights_[id] = dense_weight(*graph_.value(id).weight);
}

std::vector<at::Tensor> Executor::run_node(const graph::Node& node, const Values& live,
                                           const NodeObserver& observer) {
  std::vector<at::Tensor> inputs(node.inputs.size());
  const bool lookup = gathers_rows(graph_, node) && parameters_.count(node.inputs[0]) == 0 &&
                      weights_.count(node.inputs[0]) == 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const graph::ValueId id = node.inputs[i];
    if (id == graph::kNone || (lookup && i == 0)) continue;
    if (const auto it = live.find(id); it != live.end()) {
      inputs[i] = it->second;
    } else if (graph_.value(id).weight) {
      inputs[i] = weight(id);
    } else {
      fail(ErrorCode::kInvalidArgument,
           "[exec] node '{}': its input '{}' is not among the live values", node.name,
           graph_.value(id).name);
    }
  }
  if (observer) observer(node, inputs);
  if (node.input_quant == graph::ActivationQuant::kInt8PerToken32)
    inputs[0] = quantize_dequantize_int8(inputs[0]);
  if (lookup)
    return {decode_rows_at(std::get<codec::EncodedTensor>(*graph_.value(node.inputs[0]).weight),
                           inputs[1])};
  Call call{node, inputs, options_};
  call.run_subgraph = [this](const graph::Graph& body, std::span<const at::Tensor> values) {
    return run_subgraph(body, values);
  };
  return find_operator(node.op, node.domain)(call);
}

std::vector<at::Tensor> Executor::run_subgraph(const graph::Graph& body,
                                               std::span<const at::Tensor> inputs) {
  std::unique_ptr<Executor>& executor = subgraphs_[&body];
  if (!executor) executor = std::make_unique<Executor>(body, options_);
  if (inputs.size() != body.inputs.size()) {
    fail(ErrorCode::kInvalidArgument, "[exec] subgraph '{}' takes {} inputs, not {}", body.name,
         body.inputs.size(), inputs.size());
  }
  Values live;
  for (size_t i = 0; i < inputs.size(); ++i) live[body.inputs[i]] = inputs[i];
  executor->run_nodes(0, static_cast<graph::NodeId>(body.nodes().size()), live);
  std::vector<at::Tensor> outputs;
  for (const graph::ValueId id : body.outputs) {
    outputs.push_back(body.value(id).weight ? executor->weight(id) : live.at(id));
  }
  return outputs;
}

void Executor::run_nodes(graph::NodeId begin, graph::NodeId end, Values& live,
                         const NodeObserver& observer) {
  if (begin < 0 || end < begin || end > static_cast<graph::NodeId>(graph_.nodes().size())) {
    fail(ErrorCode::kInvalidArgument, "[exec] node range [{}, {}) is outside the graph's {} nodes",
         begin, end, graph_.nodes().size());
  }
  const c10::AutoGradMode gradients(options_.gradients);
  for (graph::NodeId id = begin; id < end; ++id) {
    base::check_interrupt();
    const graph::Node& node = graph_.node(id);
    std::vector<at::Tensor> outputs;
    try {
      outputs = run_node(node, live, observer);
    } catch (const c10::Error& error) {
      fail(ErrorCode::kInvalidArgument, "[exec] node '{}' ({}): {}", node.name, node.op,
           error.what_without_backtrace());
    } catch (const Error& error) {
      if (std::string_view(error.what()).substr(0, 1) == "[") throw;
      throw Error(error.code(),
                  fmt::format("[exec] node '{}' ({}): {}", node.name, node.op, error.what()));
    }
    for (size_t i = 0; i < node.outputs.size() && i < outputs.size(); ++i) {
      if (node.outputs[i] != graph::kNone && last_use_[node.outputs[i]] > id)
        live[node.outputs[i]] = outputs[i];
    }
    for (const graph::ValueId input : node.inputs) {
      if (input != graph::kNone && last_use_[input] <= id) live.erase(input);
    }
  }
  if (!options_.cache_weights) drop_copies(begin, end);
}

void Executor::drop_copies(graph::NodeId begin, graph::NodeId end) {
  for (graph::NodeId id = begin; id < end; ++id) {
    for (const graph::ValueId input : graph_.node(id).inputs) {
      if (input != graph::kNone) weights_.erase(input);
    }
  }
}

void Executor::release_weights(graph::NodeId begin, graph::NodeId end) {
  drop_copies(begin, end);
  for (graph::NodeId id = begin; id < end; ++id) {
    for (const graph::ValueId input : graph_.node(id).inputs) {
      if (input == graph::kNone || !graph_.value(input).weight) continue;
      base::release_pages(stored_bytes(*graph_.value(input).weight));
    }
  }
}

void Executor::keep(graph::ValueId id) { last_use_.at(id) = kForever; }

void Executor::set_parameter(graph::ValueId id, at::Tensor tensor) {
  const graph::Value& value = graph_.value(id);
  if (!value.weight) fail(ErrorCode::kInvalidArgument, "[exec] '{}' is no weight", value.name);
  if (tensor.sizes().vec() != graph::weight_shape(*value.weight)) {
    fail(ErrorCode::kInvalidArgument, "[exec] '{}': a parameter of another shape than the weight's",
         value.name);
  }
  weights_.erase(id);
  parameters_[id] = std::move(tensor);
}

}  // namespace packlight::exec

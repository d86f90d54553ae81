#include "io/network_package.h"

#include <ATen/ATen.h>

#include "base/fail.h"
#include "graph/weight.h"
#include "import/onnx.h"
#include "import/sources.h"

namespace packlight::import {
namespace {

constexpr int64_t kOpset = 23;

graph::Graph graph_of(const io::Network& network, const std::string& origin);

graph::Value value_of(const io::NetworkValue& from) {
  graph::Value value;
  value.name = from.name;
  if (from.dtype) value.type = graph::from_scalar_type(scalar_type_of(*from.dtype));
  if (from.shape) {
    value.shape.emplace();
    for (const io::NetworkDim& dim : *from.shape)
      value.shape->push_back(dim.symbol.empty() ? graph::Dim(dim.value) : graph::Dim(dim.symbol));
  }
  if (!from.constant) return value;
  if (from.constant->is_packed()) {
    value.weight = from.constant->packed;
  } else {
    value.weight = tensor_view(from.constant->record);
  }
  value.type = graph::weight_type(*value.weight);
  return value;
}

graph::Node node_of(const io::NetworkNode& from, const std::string& origin) {
  graph::Node node;
  node.name = from.name;
  node.op = from.op;
  node.domain = from.domain;
  node.inputs = from.inputs;
  node.outputs = from.outputs;
  node.captures = from.captures;
  for (const auto& [name, attribute] : from.attributes) {
    std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, io::TensorRecord>) {
            node.attributes[name] = tensor_view(value);
          } else if constexpr (std::is_same_v<T, std::shared_ptr<const io::Network>>) {
            node.attributes[name] = std::make_shared<graph::Graph>(graph_of(*value, origin));
          } else {
            node.attributes[name] = value;
          }
        },
        attribute);
  }
  return node;
}

graph::Graph graph_of(const io::Network& network, const std::string& origin) {
  static_assert(graph::kNone == io::kNoValue);
  graph::Graph graph;
  graph.name = network.name;
  graph.origin = origin;
  for (const io::NetworkValue& value : network.values) graph.add_value(value_of(value));
  graph.inputs = network.inputs;
  graph.outputs = network.outputs;
  std::vector<graph::Node> nodes;
  for (const io::NetworkNode& node : network.nodes) nodes.push_back(node_of(node, origin));
  graph.replace_nodes(std::move(nodes));
  return graph;
}

}  // namespace

OnnxNetwork load_network_package(const std::filesystem::path& path) {
  const io::NetworkPackage package = io::NetworkPackage::open(path);
  OnnxNetwork network;
  network.path = path;
  network.opset = kOpset;
  network.metadata = package.network()->metadata;
  try {
    network.graph = graph_of(*package.network(), path.string());
    graph::verify(network.graph);
  } catch (const Error& e) {  // a package that somebody made, not a caller's mistake
    const bool made_up = e.code() == ErrorCode::kInvalidArgument;
    throw Error(made_up ? ErrorCode::kCorrupt : e.code(),
                one_line(fmt::format("'{}': {}", path.string(), e.what())));
  }
  return network;
}

}  // namespace packlight::import

#include "deploy/network.h"

#include <ATen/ATen.h>

#include "base/fail.h"
#include "exec/executor.h"
#include "graph/weight.h"

namespace packlight::deploy {
namespace {

codec::DType dtype_of(graph::ElementType type, const std::string& name) {
  switch (type) {
    case graph::ElementType::kF32:
      return codec::DType::kF32;
    case graph::ElementType::kF16:
      return codec::DType::kF16;
    case graph::ElementType::kBF16:
      return codec::DType::kBF16;
    case graph::ElementType::kF64:
      return codec::DType::kF64;
    case graph::ElementType::kI64:
      return codec::DType::kI64;
    case graph::ElementType::kI32:
      return codec::DType::kI32;
    case graph::ElementType::kI16:
      return codec::DType::kI16;
    case graph::ElementType::kI8:
      return codec::DType::kI8;
    case graph::ElementType::kU8:
      return codec::DType::kU8;
    case graph::ElementType::kBool:
      return codec::DType::kBool;
    default:
      fail(ErrorCode::kUnsupported,
           "[deploy] value '{}': elements of {} are not supported by the runtime", name,
           graph::element_type_name(type));
  }
}

io::TensorRecord record_of(const std::string& name, const at::Tensor& given) {
  const bool is_float = at::isFloatingType(given.scalar_type());
  auto tensor =
      std::make_shared<const at::Tensor>((is_float ? given.to(at::kFloat) : given).contiguous());
  io::TensorRecord record;
  record.name = name;
  record.dtype = dtype_of(graph::from_scalar_type(tensor->scalar_type()), name);
  record.shape = tensor->sizes().vec();
  record.bytes = {static_cast<const std::byte*>(tensor->data_ptr()), tensor->nbytes()};
  record.owner = tensor;
  return record;
}

io::NetworkConstant constant_of(const graph::Value& value) {
  io::NetworkConstant constant;
  if (const auto* dense = std::get_if<at::Tensor>(&*value.weight)) {
    constant.record = record_of(value.name, *dense);
    return constant;
  }
  const auto& encoded = std::get<codec::EncodedTensor>(*value.weight);
  if (!codec::is_tile(encoded.dtype)) {
    constant.record = record_of(value.name, exec::dense_weight(*value.weight));
    return constant;
  }
  constant.record.name = value.name;
  constant.record.dtype = codec::DType::kF32;  // what it stands for
  for (const graph::Dim& dim : *value.shape) constant.record.shape.push_back(dim.value);
  constant.packed = encoded;
  return constant;
}

io::NetworkValue value_of(const graph::Value& value) {
  io::NetworkValue out;
  out.name = value.name;
  if (value.type != graph::ElementType::kUndefined && !value.weight)
    out.dtype = dtype_of(value.type, value.name);
  if (value.shape) {
    out.shape.emplace();
    for (const graph::Dim& dim : *value.shape) out.shape->push_back({dim.value, dim.symbol});
  }
  if (value.weight) out.constant = constant_of(value);
  return out;
}

io::NetworkNode node_of(const graph::Node& node) {
  if (node.input_quant != graph::ActivationQuant::kNone) {
    fail(ErrorCode::kUnsupported,
         "[deploy] node '{}' ({}): its input is quantized per token, which the runtime does for "
         "language models only",
         node.name, node.op);
  }
  io::NetworkNode out;
  out.name = node.name;
  out.op = node.op;
  out.domain = node.domain;
  out.inputs.assign(node.inputs.begin(), node.inputs.end());
  out.outputs.assign(node.outputs.begin(), node.outputs.end());
  out.captures = node.captures;
  for (const auto& [name, attribute] : node.attributes) {
    std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, at::Tensor>) {
            out.attributes[name] = record_of(name, value);
          } else if constexpr (std::is_same_v<T, std::shared_ptr<graph::Graph>>) {
            out.attributes[name] = to_network(*value);
          } else {
            out.attributes[name] = value;
          }
        },
        attribute);
  }
  return out;
}

}  // namespace

std::shared_ptr<const io::Network> to_network(const graph::Graph& graph) {
  static_assert(graph::kNone == io::kNoValue);
  auto network = std::make_shared<io::Network>();
  network->name = graph.name;
  for (const graph::Value& value : graph.values()) network->values.push_back(value_of(value));
  for (const graph::Node& node : graph.nodes()) network->nodes.push_back(node_of(node));
  network->inputs.assign(graph.inputs.begin(), graph.inputs.end());
  network->outputs.assign(graph.outputs.begin(), graph.outputs.end());
  return network;
}

}  // namespace packlight::deploy

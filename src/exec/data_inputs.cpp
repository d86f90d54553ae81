#include "exec/data_inputs.h"

#include <ATen/ATen.h>

#include <cstring>

#include "base/fail.h"
#include "graph/weight.h"

namespace packlight::exec {

at::Tensor to_tensor(const data::Array& array) {
  const at::ScalarType type = array.dtype == codec::DType::kF32   ? at::kFloat
                              : array.dtype == codec::DType::kI64 ? at::kLong
                                                                  : at::kByte;
  at::Tensor tensor = at::empty(array.shape, type);
  if (!array.bytes.empty()) std::memcpy(tensor.data_ptr(), array.bytes.data(), array.bytes.size());
  return tensor;
}

std::unordered_map<std::string, at::Tensor> input_tensors(const graph::Graph& graph,
                                                          const data::Batch& batch) {
  std::unordered_map<std::string, at::Tensor> inputs;
  for (const data::Field& field : batch.inputs) {
    if (field.name.empty() && graph.inputs.size() != 1) {
      fail(ErrorCode::kInvalidArgument,
           "[data] '{}' has {} inputs: samples must name theirs (use an NPZ file)", graph.name,
           graph.inputs.size());
    }
    const std::string& name = field.name.empty() ? graph.value(graph.inputs[0]).name : field.name;
    const auto id = graph.find(name);
    if (!id || std::find(graph.inputs.begin(), graph.inputs.end(), *id) == graph.inputs.end())
      fail(ErrorCode::kInvalidArgument,
           "[data] the samples have a field '{}', the model '{}' no such input", name, graph.name);
    const graph::Value& value = graph.value(*id);
    if (value.shape) {
      bool fits = value.shape->size() == field.array.shape.size();
      for (size_t i = 0; fits && i < field.array.shape.size(); ++i)
        fits = !(*value.shape)[i].known() || (*value.shape)[i].value == field.array.shape[i];
      if (!fits) {
        fail(ErrorCode::kInvalidArgument,
             "[data] a batch for input '{}' has shape {}, the model takes {}{}", name,
             data::shape_text(field.array.shape), graph::to_string(*value.shape),
             field.array.shape.size() == 4 && field.name.empty()
                 ? " (pictures: the network's .yaml file says 'resize', 'channels' and 'layout')"
                 : "");
      }
    }
    const bool floats =
        value.type == graph::ElementType::kF32 || value.type == graph::ElementType::kF16 ||
        value.type == graph::ElementType::kBF16 || value.type == graph::ElementType::kF64;
    if (field.array.dtype == codec::DType::kU8 && floats) {
      fail(ErrorCode::kInvalidArgument,
           "[data] the samples for input '{}' are bytes, the model takes {}: say what 0 to 255 "
           "become "
           "in the network's .yaml file (preprocess: {{scale: 0.00392157}}) or by --preprocess",
           name, graph::element_type_name(value.type));
    }
    at::Tensor tensor = to_tensor(field.array);
    if (value.type != graph::ElementType::kUndefined)
      tensor = tensor.to(graph::to_scalar_type(value.type));
    inputs[name] = std::move(tensor);
  }
  for (const graph::ValueId id : graph.inputs) {
    if (inputs.count(graph.value(id).name) == 0)
      fail(ErrorCode::kInvalidArgument,
           "[data] the samples have no field for the model's input '{}'", graph.value(id).name);
  }
  return inputs;
}

}  // namespace packlight::exec

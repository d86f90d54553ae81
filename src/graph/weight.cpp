#include "graph/weight.h"

#include <ATen/core/Tensor.h>

#include <array>

#include "base/fail.h"

namespace packlight::graph {
namespace {

struct TypeRow {
  ElementType type;
  std::string_view name;
  at::ScalarType scalar;
  int64_t onnx;  // TensorProto.DataType
};

constexpr std::array kTypes = {
    TypeRow{ElementType::kF32, "F32", at::kFloat, 1},
    TypeRow{ElementType::kF16, "F16", at::kHalf, 10},
    TypeRow{ElementType::kBF16, "BF16", at::kBFloat16, 16},
    TypeRow{ElementType::kF64, "F64", at::kDouble, 11},
    TypeRow{ElementType::kI64, "I64", at::kLong, 7},
    TypeRow{ElementType::kI32, "I32", at::kInt, 6},
    TypeRow{ElementType::kI16, "I16", at::kShort, 5},
    TypeRow{ElementType::kI8, "I8", at::kChar, 3},
    TypeRow{ElementType::kU8, "U8", at::kByte, 2},
    TypeRow{ElementType::kBool, "BOOL", at::kBool, 9},
    TypeRow{ElementType::kString, "STRING", at::ScalarType::Undefined, 8},
};

}  // namespace

std::string_view element_type_name(ElementType type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return row.name;
  }
  return "?";
}

bool is_float(ElementType type) {
  return type == ElementType::kF32 || type == ElementType::kF16 || type == ElementType::kBF16 ||
         type == ElementType::kF64;
}

at::ScalarType to_scalar_type(ElementType type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type && row.scalar != at::ScalarType::Undefined) return row.scalar;
  }
  fail(ErrorCode::kUnsupported, "[graph] element type {} has no tensor type",
       element_type_name(type));
}

ElementType from_scalar_type(at::ScalarType type) {
  for (const TypeRow& row : kTypes) {
    if (row.scalar == type && type != at::ScalarType::Undefined) return row.type;
  }
  fail(ErrorCode::kUnsupported, "[graph] tensors of type {} are no graph values",
       c10::toString(type));
}

ElementType from_onnx_type(int64_t data_type) {
  for (const TypeRow& row : kTypes) {
    if (row.onnx == data_type) return row.type;
  }
  fail(ErrorCode::kUnsupported, "[graph] ONNX data type {} is not supported", data_type);
}

int64_t to_onnx_type(ElementType type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return row.onnx;
  }
  fail(ErrorCode::kUnsupported, "[graph] an undefined element type has no ONNX number");
}

ElementType weight_type(const Weight& weight) {
  if (const auto* tensor = std::get_if<at::Tensor>(&weight))
    return from_scalar_type(tensor->scalar_type());
  return ElementType::kF32;
}

std::vector<int64_t> weight_shape(const Weight& weight) {
  if (const auto* tensor = std::get_if<at::Tensor>(&weight)) return tensor->sizes().vec();
  const auto& encoded = std::get<codec::EncodedTensor>(weight);
  return {encoded.rows, encoded.cols};
}

std::string_view weight_format_name(const Weight& weight) {
  if (const auto* tensor = std::get_if<at::Tensor>(&weight)) {
    return element_type_name(from_scalar_type(tensor->scalar_type()));
  }
  return codec::info(std::get<codec::EncodedTensor>(weight).dtype).name;
}

uint64_t weight_bytes(const Weight& weight) {
  if (const auto* tensor = std::get_if<at::Tensor>(&weight)) return tensor->nbytes();
  return std::get<codec::EncodedTensor>(weight).size_bytes();
}

std::optional<std::vector<int64_t>> constant_integers(const Graph& graph, ValueId value) {
  if (value < 0 || value >= static_cast<ValueId>(graph.values().size())) return std::nullopt;
  const auto& weight = graph.value(value).weight;
  if (!weight) return std::nullopt;
  const auto* tensor = std::get_if<at::Tensor>(&*weight);
  if (tensor == nullptr || !tensor->defined() || tensor->dim() > 1) return std::nullopt;
  if (tensor->scalar_type() != at::kLong && tensor->scalar_type() != at::kInt) return std::nullopt;
  const at::Tensor wide = tensor->to(at::kLong).contiguous();
  const int64_t* data = wide.data_ptr<int64_t>();
  return std::vector<int64_t>(data, data + wide.numel());
}

}  // namespace packlight::graph

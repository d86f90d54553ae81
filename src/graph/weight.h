#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace packlight::graph {

// "F32", "I64", ...; static storage.
std::string_view element_type_name(ElementType type);
bool is_float(ElementType type);

// The LibTorch dtype of an element type and back. Errors: Unsupported for a type that the other
// side has not.
at::ScalarType to_scalar_type(ElementType type);
ElementType from_scalar_type(at::ScalarType type);
// ONNX TensorProto.DataType numbers, as the attribute `to` of Cast holds them. Errors: Unsupported.
ElementType from_onnx_type(int64_t data_type);
int64_t to_onnx_type(ElementType type);

// The element type that a weight's bytes hold: its own dtype when dense, F32 for an encoded matrix.
ElementType weight_type(const Weight& weight);
// [rows, cols] for an encoded matrix.
std::vector<int64_t> weight_shape(const Weight& weight);
// The storage format as users know it: "F32", "Q4_1", "TILE_INT4".
std::string_view weight_format_name(const Weight& weight);
// Bytes that the weight takes where it is stored.
uint64_t weight_bytes(const Weight& weight);

// The integers of a constant (an I64 or I32 weight of rank 0 or 1), or nothing when the value is no
// such constant.
std::optional<std::vector<int64_t>> constant_integers(const Graph& graph, ValueId value);

}  // namespace packlight::graph

#pragma once

#include <string_view>
#include <vector>

#include "codec/encoded_tensor.h"
#include "graph/graph.h"
#include "io/package.h"

namespace packlight::deploy {

// A weight as an encoded tensor: a view of the same bytes (a vector is one row). The view owns what it shows.
// Errors: Unsupported for a dense tensor that is not floating point.
codec::EncodedTensor encoded_view(const graph::Weight& weight);

// The same for a weight of the graph by name. Errors: Internal when it is none, or has another shape than `spec`.
codec::EncodedTensor encoded_weight(const graph::Graph& graph, const io::TensorSpec& spec);

// Decoded whole to F32 in a buffer that the result owns. `name` is for errors.
// Errors: Unsupported for F64 values that are no F32 numbers.
codec::EncodedTensor to_f32(const codec::EncodedTensor& tensor, std::string_view name);

// F16 tiles as row-major F16: the values are F16, so nothing is rounded.
std::vector<std::byte> f16_tile_rows(const codec::EncodedTensor& tensor);

}  // namespace packlight::deploy

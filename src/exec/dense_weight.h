#pragma once

#include <ATen/core/Tensor.h>

#include "codec/encoded_tensor.h"
#include "graph/graph.h"

namespace packlight::exec {

// Rows of an encoded matrix decoded to F32, in the order asked for. indices: I64 of any shape;
// result [indices..., cols]. Errors: InvalidArgument for an index outside [-rows, rows).
at::Tensor decode_rows_at(const codec::EncodedTensor& tensor, const at::Tensor& indices);

// Throws Corrupt naming the first weight that nodes [begin, end) use and that holds a NaN or an
// infinity, with the element's index. Decodes one weight at a time and keeps none; cost: reading
// every weight once.
void check_finite(const graph::Graph& graph, graph::NodeId begin, graph::NodeId end);

}  // namespace packlight::exec

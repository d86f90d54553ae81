#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "quantize/network_layers.h"
#include "quantize/weight_codes.h"

namespace packlight::quantize {

// Whether a layer can compute in integers on activations that are quantized as they come: Conv,
// MatMul and Gemm whose weight is the right factor; of a Gemm, with transA 0 and a constant, or no,
// bias (or beta 1).
bool has_integer_form(const graph::Graph& graph, const NetworkLayer& layer);

// Dynamic quantization: every layer with weight codes becomes
//   codes, scale, zero = DynamicQuantizeLinear(x)          (once for all layers that take x)
//   y = Cast(MatMulInteger | ConvInteger(codes, weight, zero)) * (scale * weight scales) (+ bias)
// as ONNX Runtime's quantize_dynamic writes. Scale and zero point are those of the whole tensor x,
// all samples of a batch together. `weights`: by layer index, of layers that has_integer_form()
// alone. The other layers stay float. Outputs keep their names. Infers shapes again.
void insert_dynamic(graph::Graph& graph, const std::vector<NetworkLayer>& layers,
                    const std::map<size_t, WeightCodes>& weights);

}  // namespace packlight::quantize

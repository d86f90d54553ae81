#pragma once

#include <optional>

#include "graph/graph.h"

namespace packlight::graph {

// y = x * scale + shift for each channel, F64 [channels]: an inference BatchNormalization, or a
// Mul, Div, Add or Sub with a constant that varies along the channel axis alone.
struct ChannelAffine {
  at::Tensor scale, shift;
};
// `node` as such a function of its input `data`, a tensor of `rank` dimensions of which `axis` has
// `channels`.
std::optional<ChannelAffine> channel_affine(const Graph& graph, const Node& node, ValueId data,
                                            int64_t channels, int64_t rank, int64_t axis);

// Folding changes weights in F64 and rounds them to F32 once; a layer without bias gains one where
// it must. Left alone: weights that are encoded or that others use as well, and layers whose output
// others use. With `batch_norm` false (for training) BatchNormalization stays.

// BatchNormalization and per-channel Mul, Div, Add, Sub after a Conv or ConvTranspose.
int fold_after_convolution(Graph& graph, bool batch_norm = true);
// The same before a Conv; what shifts only before a Conv without padding, since the padding is not
// shifted.
int fold_before_convolution(Graph& graph, bool batch_norm = true);
// BatchNormalization after Gemm, or after MatMul with or without its bias Add, of rank 2.
int fold_after_linear(Graph& graph);

}  // namespace packlight::graph

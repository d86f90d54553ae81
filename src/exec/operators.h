#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "exec/executor.h"
#include "graph/graph.h"
#include "operators/window.h"

namespace packlight::exec {

// One node to run: its inputs in order (undefined where absent), of which inputs 0 .. min of the
// operator's rule are there.
struct Call {
  const graph::Node& node;
  std::span<const at::Tensor> inputs;
  const ExecOptions& options;
  // Runs a subgraph of the node: its inputs in order -> its outputs in order.
  std::function<std::vector<at::Tensor>(const graph::Graph&, std::span<const at::Tensor>)>
      run_subgraph = nullptr;

  bool has(size_t input) const { return input < inputs.size() && inputs[input].defined(); }
};

// Returns the node's outputs in order. Inputs are never written to. Runs with or without autograd,
// as the caller set it. Errors are at::Errors or packlight::Errors; the executor adds the node.
using OperatorFunction = std::vector<at::Tensor> (*)(const Call&);

struct OperatorEntry {
  std::string_view op;
  OperatorFunction run;
  std::string_view domain = "";  // ai.onnx
};

// Every operator that is implemented, family by family.
std::vector<const OperatorEntry*> all_operators();
// nullptr for an operator that is not implemented.
OperatorFunction find_operator(std::string_view op, std::string_view domain);

// One table per family, in the file of that name.
std::span<const OperatorEntry> activation_operators();
std::span<const OperatorEntry> control_operators();
std::span<const OperatorEntry> convolution_operators();
std::span<const OperatorEntry> creation_operators();
std::span<const OperatorEntry> elementwise_operators();
std::span<const OperatorEntry> index_operators();
std::span<const OperatorEntry> matrix_operators();
std::span<const OperatorEntry> movement_operators();
std::span<const OperatorEntry> normalization_operators();
std::span<const OperatorEntry> pooling_operators();
std::span<const OperatorEntry> quantized_operators();
std::span<const OperatorEntry> recurrent_operators();
std::span<const OperatorEntry> reduction_operators();
std::span<const OperatorEntry> resampling_operators();
std::span<const OperatorEntry> transformer_operators();

// Helpers that operators share.
// The elements of a small integer tensor.
std::vector<int64_t> integers(const at::Tensor& tensor);
// The single element of a tensor of rank 0 or 1. Errors: InvalidArgument for more or none.
int64_t integer(const at::Tensor& tensor, std::string_view what);
// The elements of a tensor of this shape, for sizes that a file gives. Errors: InvalidArgument for
// a negative size or more elements than memory can hold.
int64_t element_count(at::IntArrayRef shape);
// axis in [-rank, rank) -> [0, rank). Errors: InvalidArgument.
int64_t normalised_axis(int64_t axis, int64_t rank);

// The window that a node moves over x [batch, channels, spatial...]: of a kernel of the given
// sizes, and of a weight [outputs, channels, kernel...]. Errors: InvalidArgument for attributes
// that break a rule.
operators::Window node_window(const graph::Node& node, const at::Tensor& x,
                              const std::vector<int64_t>& kernel);
operators::Window kernel_window(const graph::Node& node, const at::Tensor& x,
                                const at::Tensor& weight);
// Where it stops on each spatial axis of x. Errors: InvalidArgument where it does not fit.
std::vector<operators::WindowStops> stops_of(const operators::Window& window, const at::Tensor& x);
// x with its spatial axes padded as the stops say.
at::Tensor pad_spatial(const at::Tensor& x, const std::vector<operators::WindowStops>& stops,
                       const at::Scalar& value);
// Conv: x [batch, channels, spatial...], weight [outputs, channels / groups, kernel...], bias
// [outputs] or undefined; 1 to 3 spatial axes, F32 or F64, padded with zeros. (Integers: subtract
// the zero points, convolve in F64, round.)
at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const operators::Window& window, int64_t groups);
// Resize of opset 23 (resize.cpp): LibTorch's up-sampling of images where it computes what the
// specification says, else axis by axis.
at::Tensor resize(const Call& call);

// Softmax attention for grouped-query heads, queries taken options.attention_query_chunk at a time.
struct AttentionSpec {
  bool causal = false;
  int64_t window = 0;  // > 0: a query sees only the last `window` keys up to itself
  double scale = 1;
  int64_t query_chunk = 128;
};
// q: [batch, heads, n, size], k: [batch, kv_heads, m, size], v: [batch, kv_heads, m, value size],
// all F32; returns [batch, heads, n, value size] contiguous. Query i is at position i, like key i.
// Never makes more than [heads, chunk, m] scores; K and V are not repeated. With autograd the
// scores are computed again in the backward pass.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionSpec& spec);

// x -> round(x / scale) * scale in blocks of 32 of the last dimension, scale = max|x| / 127, half
// to even: what the runtime computes for 8-bit activations. The gradient passes straight through.
at::Tensor quantize_dequantize_int8(const at::Tensor& x);

// x -> (clamp(round(x / scale) + zero, low, high) - zero) * scale, half to even: QuantizeLinear and
// DequantizeLinear in one. scale (positive) and zero broadcast to x. Gradients: of x, as it comes
// where the code is in [low, high] and zero outside (straight-through estimator); of scale, the
// learned step size's (Esser et al. 2020, "Learned Step Size Quantization": the code less x / scale
// inside, the code outside; without their factor); of zero, none.
at::Tensor fake_quantize(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& zero,
                         double low, double high);

}  // namespace packlight::exec

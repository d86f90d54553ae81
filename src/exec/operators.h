#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string_view>
#include <vector>

#include "exec/executor.h"
#include "graph/graph.h"

namespace packlight::exec {

// One node to run: its inputs in order (undefined where absent), of which inputs 0 .. min of the
// operator's rule are there.
struct Call {
  const graph::Node& node;
  std::span<const at::Tensor> inputs;
  const ExecOptions& options;

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

// nullptr for an operator that is not implemented.
OperatorFunction find_operator(std::string_view op, std::string_view domain);

// One table per family, in the file of that name.
std::span<const OperatorEntry> elementwise_operators();
std::span<const OperatorEntry> matrix_operators();
std::span<const OperatorEntry> movement_operators();
std::span<const OperatorEntry> transformer_operators();

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

}  // namespace packlight::exec

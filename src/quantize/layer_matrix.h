#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "graph/graph.h"
#include "quantize/network_layers.h"

namespace packlight::quantize {

// A layer as matrix products, one for each group of a convolution:
//   y[g] = x[g] w[g]^T,  x[g]: [positions, k], w[g]: [outputs, k]
// A convolution has one position for each output pixel and k = channels / groups * kernel.
class LayerMatrix {
 public:
  // Nothing for a layer that has no such form here: a weight that is the left factor or has batch
  // dimensions, Gemm with transA, and a transposed convolution whose windows overlap, are padded or
  // grouped.
  static std::optional<LayerMatrix> of(const graph::Graph& graph, const NetworkLayer& layer);

  // A tensor of the weight's shape -> [groups, outputs, k], and back.
  at::Tensor matrix(const at::Tensor& weight) const;
  at::Tensor weight(const at::Tensor& matrix) const;
  // A vector of one number for each output channel (a bias) -> [groups, 1, outputs].
  at::Tensor bias(const at::Tensor& vector) const;

  int64_t inner() const { return inner_; }  // k
  // How many positions an input has.
  int64_t positions(const at::Tensor& x) const;
  // Those of the input at `indices` (I64, below positions()): [groups, indices, k].
  at::Tensor rows(const at::Tensor& x, const at::Tensor& indices) const;

 private:
  enum class Form { kConvolution, kTransposed, kLinear };
  explicit LayerMatrix(const graph::Node& node) : node_(node) {}
  at::Tensor windows(const at::Tensor& x) const;

  graph::Node node_;
  Form form_ = Form::kLinear;
  std::vector<int64_t> shape_;  // the weight's
  bool out_first_ = true;       // kLinear: the weight is [outputs, k]
  int64_t groups_ = 1, inner_ = 0;
};

}  // namespace packlight::quantize

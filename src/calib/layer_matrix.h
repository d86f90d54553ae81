#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "graph/graph.h"

namespace packlight::calib {

// A layer as matrix products, one for each group of a convolution:
//   y[g] = x[g] w[g]^T,  x[g]: [positions, k], w[g]: [outputs, k]
// A convolution has one position for each output pixel and k = channels / groups * kernel.
class LayerMatrix {
 public:
  // Nothing for a node that has no such form here: one that is no Conv, ConvTranspose, MatMul or
  // Gemm whose second input is a weight (or its Transpose), a weight with batch dimensions, Gemm
  // with transA or another alpha than 1, and a transposed convolution whose windows overlap, are
  // padded or grouped.
  static std::optional<LayerMatrix> of(const graph::Graph& graph, graph::NodeId id);

  graph::ValueId weight_value() const { return weight_value_; }
  // The axes of the weight along which its inputs and outputs lie.
  int in_axis() const;
  int out_axis() const { return in_axis() == 0 ? 1 : 0; }
  int64_t groups() const { return groups_; }
  // Columns of the matrix for each index of in_axis(), neighbours of each other.
  int64_t columns_per_input() const;
  // Rows of the matrix for each index of out_axis(), neighbours of each other.
  int64_t rows_per_output() const;

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
  // Those of the output (or of its gradient): [groups, indices, outputs].
  at::Tensor output_rows(const at::Tensor& y, const at::Tensor& indices) const;
  // Indices of at most `most` positions of an input, evenly spread over them.
  at::Tensor even_positions(const at::Tensor& x, int64_t most) const;

 private:
  enum class Form { kConvolution, kTransposed, kLinear };
  explicit LayerMatrix(const graph::Node& node) : node_(node) {}
  at::Tensor windows(const at::Tensor& x) const;
  at::Tensor pick(const at::Tensor& view, const at::Tensor& indices) const;

  graph::Node node_;
  graph::ValueId weight_value_ = graph::kNone;
  Form form_ = Form::kLinear;
  std::vector<int64_t> shape_;  // the weight's
  bool out_first_ = true;       // kLinear: the weight is [outputs, k]
  int64_t groups_ = 1, inner_ = 0;
};

}  // namespace packlight::calib

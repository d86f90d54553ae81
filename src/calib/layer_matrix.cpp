#include "calib/layer_matrix.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "exec/operators.h"
#include "graph/weight.h"
#include "operators/window.h"

namespace packlight::calib {
namespace {

int64_t product(const std::vector<int64_t>& shape, size_t begin) {
  return std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(begin), shape.end(),
                         int64_t{1}, std::multiplies<>());
}

// Every input element alone makes a kernel's worth of outputs.
bool windows_are_apart(const graph::Node& node, const std::vector<int64_t>& kernel) {
  const operators::Window window =
      operators::read_window(operators::window_attributes(node), kernel);
  return std::all_of(window.begin(), window.end(), [](const operators::WindowAxis& axis) {
    return axis.kernel == axis.stride && axis.dilation == 1 && axis.begin == 0 && axis.end == 0 &&
           axis.auto_pad == operators::AutoPad::kNotSet && axis.output_padding == 0 &&
           axis.output_size < 0;
  });
}

}  // namespace

std::optional<LayerMatrix> LayerMatrix::of(const graph::Graph& graph, graph::NodeId id) {
  static constexpr std::array kLayers = {"Conv", "ConvTranspose", "MatMul", "Gemm"};
  const graph::Node& node = graph.node(id);
  if (!node.domain.empty() || std::find(kLayers.begin(), kLayers.end(), node.op) == kLayers.end())
    return std::nullopt;
  LayerMatrix m(node);
  m.weight_value_ = node.inputs[1];
  bool turned = node.op == "Gemm" && node.integer("transB", 0) != 0;
  if (const auto linear = graph::linear_weight(graph, node)) {
    m.weight_value_ = linear->value;
    turned = linear->transposed;
  }
  const auto& weight = graph.value(m.weight_value_).weight;
  if (!weight || !graph::is_float(graph::weight_type(*weight))) return std::nullopt;
  m.shape_ = graph::weight_shape(*weight);
  if (node.op == "Conv") {
    m.form_ = Form::kConvolution;
    m.groups_ = node.integer("group", 1);
    m.inner_ = product(m.shape_, 1);
  } else if (node.op == "ConvTranspose") {
    m.form_ = Form::kTransposed;
    m.inner_ = m.shape_[0];
    const std::vector<int64_t> kernel(m.shape_.begin() + 2, m.shape_.end());
    if (node.integer("group", 1) != 1 || !windows_are_apart(node, kernel)) return std::nullopt;
  } else {
    if (m.shape_.size() != 2 || node.integer("transA", 0) != 0 || node.number("alpha", 1) != 1)
      return std::nullopt;
    m.out_first_ = turned;
    m.inner_ = m.shape_[m.out_first_ ? 1 : 0];
  }
  return m;
}

int LayerMatrix::in_axis() const {
  const bool out_first = form_ == Form::kConvolution || (form_ == Form::kLinear && out_first_);
  return out_first ? 1 : 0;
}

int64_t LayerMatrix::columns_per_input() const {
  return form_ == Form::kConvolution ? product(shape_, 2) : 1;
}

int64_t LayerMatrix::rows_per_output() const {
  return form_ == Form::kTransposed ? product(shape_, 2) : 1;
}

at::Tensor LayerMatrix::matrix(const at::Tensor& weight) const {
  switch (form_) {
    case Form::kConvolution:
      return weight.reshape({groups_, -1, inner_});
    case Form::kTransposed:
      return weight.reshape({1, inner_, -1}).transpose(1, 2).contiguous();
    case Form::kLinear:
      return (out_first_ ? weight : weight.t()).contiguous().unsqueeze(0);
  }
  return {};
}

at::Tensor LayerMatrix::weight(const at::Tensor& matrix) const {
  if (form_ == Form::kTransposed) return matrix[0].t().reshape(shape_).contiguous();
  if (form_ == Form::kLinear && !out_first_) return matrix[0].t().contiguous();
  return matrix.reshape(shape_).contiguous();
}

at::Tensor LayerMatrix::bias(const at::Tensor& vector) const {
  const at::Tensor v =
      form_ == Form::kTransposed ? vector.repeat_interleave(product(shape_, 2)) : vector;
  return v.reshape({groups_, 1, -1});
}

int64_t LayerMatrix::positions(const at::Tensor& x) const {
  if (form_ == Form::kLinear) return x.numel() / inner_;
  if (form_ == Form::kTransposed) return x.numel() / x.size(1);
  int64_t count = x.size(0);
  for (const auto& stop :
       exec::stops_of(exec::node_window(node_, x, {shape_.begin() + 2, shape_.end()}), x))
    count *= stop.count;
  return count;
}

at::Tensor LayerMatrix::even_positions(const at::Tensor& x, int64_t most) const {
  const int64_t count = positions(x);
  if (count <= most) return at::arange(count, at::kLong);
  return at::div(at::arange(most, at::kLong) * count, most, "floor");
}

// A view [batch, stops..., channels, kernel...] of the padded input.
at::Tensor LayerMatrix::windows(const at::Tensor& x) const {
  const std::vector<int64_t> kernel(shape_.begin() + 2, shape_.end());
  const operators::Window window = exec::node_window(node_, x, kernel);
  at::Tensor view = exec::pad_spatial(x, exec::stops_of(window, x), 0);
  const auto axes = static_cast<int64_t>(window.size());
  for (int64_t i = 0; i < axes; ++i) {
    view = view.unfold(2 + i, window[i].extent(), window[i].stride);
    view = view.slice(-1, 0, window[i].extent(), window[i].dilation);
  }
  return view.movedim(1, 1 + axes);
}

// Positions of a view [batch, positions along each spatial axis..., elements...]: [groups, indices,
// elements of a group].
at::Tensor LayerMatrix::pick(const at::Tensor& view, const at::Tensor& indices) const {
  const auto axes = static_cast<int64_t>(shape_.size()) - 2;
  // The flat index of a position -> one index for batch and each spatial axis.
  c10::List<c10::optional<at::Tensor>> at_each;
  std::vector<at::Tensor> parts(axes + 1);
  at::Tensor left = indices;
  for (int64_t i = axes; i >= 0; --i) {
    parts[i] = at::remainder(left, view.size(i));
    left = at::div(left, view.size(i), "floor");
  }
  for (const at::Tensor& part : parts) at_each.push_back(part);
  const at::Tensor picked = at::index(view, at_each);
  return picked.reshape({indices.numel(), groups_, -1}).transpose(0, 1).contiguous();
}

at::Tensor LayerMatrix::rows(const at::Tensor& x, const at::Tensor& indices) const {
  if (form_ == Form::kLinear) return x.reshape({-1, inner_}).index_select(0, indices).unsqueeze(0);
  return pick(form_ == Form::kTransposed ? x.movedim(1, -1) : windows(x), indices);
}

at::Tensor LayerMatrix::output_rows(const at::Tensor& y, const at::Tensor& indices) const {
  if (form_ == Form::kLinear)
    return y.reshape({-1, y.size(-1)}).index_select(0, indices).unsqueeze(0);
  if (form_ == Form::kConvolution) return pick(y.movedim(1, -1), indices);
  // Each position of the input has made a window of its own.
  const auto axes = static_cast<int64_t>(shape_.size()) - 2;
  std::vector<int64_t> strides = node_.integers("strides");
  if (strides.empty()) strides.assign(axes, 1);
  at::Tensor view = y;
  for (int64_t i = 0; i < axes; ++i) view = view.unfold(2 + i, shape_[2 + i], strides[i]);
  return pick(view.movedim(1, 1 + axes), indices);
}

}  // namespace packlight::calib

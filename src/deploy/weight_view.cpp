#include "deploy/weight_view.h"

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "base/fail.h"
#include "codec/half.h"
#include "codec/tile.h"
#include "graph/weight.h"

namespace packlight::deploy {
namespace {

codec::DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble: return codec::DType::kF64;
    case at::kFloat: return codec::DType::kF32;
    case at::kHalf: return codec::DType::kF16;
    case at::kBFloat16: return codec::DType::kBF16;
    default:
      fail(ErrorCode::kUnsupported, "[deploy] a weight of type {} is no floating-point weight",
           c10::toString(tensor.scalar_type()));
  }
}

void check_fits_f32(const codec::EncodedTensor& tensor, std::string_view name) {
  for (int64_t i = 0; i < tensor.rows * tensor.cols; ++i) {
    double value;
    std::memcpy(&value, tensor.data.data() + i * sizeof value, sizeof value);
    if (static_cast<float>(value) == value || std::isnan(value)) continue;
    fail(ErrorCode::kUnsupported, "[deploy] tensor '{}' is F64 and is stored as F32, which does not hold its element {}, {}",
         name, i, value);
  }
}

}  // namespace

codec::EncodedTensor encoded_view(const graph::Weight& weight) {
  if (const auto* encoded = std::get_if<codec::EncodedTensor>(&weight)) return *encoded;
  const auto tensor = std::make_shared<at::Tensor>(std::get<at::Tensor>(weight).contiguous());
  codec::EncodedTensor view;
  view.dtype = dtype_of(*tensor);
  view.cols = tensor->dim() == 0 ? 1 : tensor->size(-1);
  view.rows = view.cols == 0 ? 0 : tensor->numel() / view.cols;
  view.data = {static_cast<const std::byte*>(tensor->data_ptr()), tensor->nbytes()};
  view.owner = tensor;
  return view;
}

codec::EncodedTensor encoded_weight(const graph::Graph& graph, const io::TensorSpec& spec) {
  const auto id = graph.find(spec.name);
  if (!id || !graph.value(*id).weight) {
    fail(ErrorCode::kInternal, "[deploy] tensor '{}' is no weight of the graph", spec.name);
  }
  codec::EncodedTensor tensor = encoded_view(*graph.value(*id).weight);
  if (tensor.rows != spec.rows || tensor.cols != spec.cols) {
    fail(ErrorCode::kInternal, "[deploy] tensor '{}' is {} x {}, but its place is {} x {}", spec.name, tensor.rows, tensor.cols,
         spec.rows, spec.cols);
  }
  return tensor;
}

codec::EncodedTensor to_f32(const codec::EncodedTensor& tensor, std::string_view name) {
  if (tensor.dtype == codec::DType::kF32 && tensor.rotary_interleaved_heads == 0) return tensor;
  if (tensor.dtype == codec::DType::kF64) check_fits_f32(tensor, name);
  const auto values = std::make_shared<std::vector<float>>(tensor.rows * tensor.cols);
  codec::decode_rows(tensor, 0, tensor.rows, values->data());
  codec::EncodedTensor out;
  out.rows = tensor.rows;
  out.cols = tensor.cols;
  out.data = std::as_bytes(std::span(*values));
  out.owner = values;
  return out;
}

std::vector<std::byte> f16_tile_rows(const codec::EncodedTensor& tensor) {
  std::vector<float> row(tensor.cols);
  std::vector<uint16_t> halves;
  for (int64_t r = 0; r < tensor.rows; ++r) {
    codec::decode_tile_row(tensor, r, row.data());
    for (const float v : row) halves.push_back(codec::f32_to_f16(v));  // exact: they were F16
  }
  const auto bytes = std::as_bytes(std::span(halves));
  return {bytes.begin(), bytes.end()};
}

}  // namespace packlight::deploy

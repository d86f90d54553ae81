#include "exec/dense_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <set>

#include "base/fail.h"
#include "base/interrupt.h"
#include "exec/executor.h"
#include "graph/weight.h"

namespace packlight::exec {
namespace {

// Rows to decode per task: enough work to pay for handing it over.
int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, cols)); }

at::Tensor decode(const codec::EncodedTensor& encoded) {
  const bool as_stored = encoded.dtype == codec::DType::kF32 &&
                         encoded.rotary_interleaved_heads == 0 &&
                         reinterpret_cast<uintptr_t>(encoded.data.data()) % alignof(float) == 0;
  if (as_stored) {  // a view; nothing writes to weights
    auto* data = const_cast<std::byte*>(encoded.data.data());
    return at::from_blob(
        data, {encoded.rows, encoded.cols}, [owner = encoded.owner](void*) {}, at::kFloat);
  }
  at::Tensor out = at::empty({encoded.rows, encoded.cols}, at::kFloat);
  auto* values = out.data_ptr<float>();
  at::parallel_for(0, encoded.rows, row_grain(encoded.cols), [&](int64_t begin, int64_t end) {
    codec::decode_rows(encoded, begin, end, values + begin * encoded.cols);
  });
  return out;
}

}  // namespace

at::Tensor dense_weight(const graph::Weight& weight) {
  c10::AutoGradMode no_gradients(false);
  if (const auto* encoded = std::get_if<codec::EncodedTensor>(&weight)) return decode(*encoded);
  const auto& tensor = std::get<at::Tensor>(weight);
  return at::isFloatingType(tensor.scalar_type()) ? tensor.detach().to(at::kFloat) : tensor;
}

at::Tensor decode_rows_at(const codec::EncodedTensor& tensor, const at::Tensor& indices) {
  const at::Tensor flat = indices.to(at::kLong).contiguous();
  std::vector<int64_t> shape = indices.sizes().vec();
  shape.push_back(tensor.cols);
  at::Tensor out = at::empty(shape, at::kFloat);
  auto* values = out.data_ptr<float>();
  const int64_t* rows = flat.data_ptr<int64_t>();
  for (int64_t i = 0; i < flat.numel(); ++i) {
    if (rows[i] < -tensor.rows || rows[i] >= tensor.rows) {
      fail(ErrorCode::kInvalidArgument, "index {} is outside [{}, {})", rows[i], -tensor.rows,
           tensor.rows);
    }
  }
  at::parallel_for(0, flat.numel(), row_grain(tensor.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = rows[i] < 0 ? rows[i] + tensor.rows : rows[i];
      codec::decode_rows(tensor, row, row + 1, values + i * tensor.cols);
    }
  });
  return out;
}

void check_finite(const graph::Graph& graph, graph::NodeId begin, graph::NodeId end) {
  std::set<graph::ValueId> seen;
  for (graph::NodeId id = begin; id < end; ++id) {
    for (const graph::ValueId input : graph.node(id).inputs) {
      if (input == graph::kNone || !graph.value(input).weight || !seen.insert(input).second)
        continue;
      const graph::Value& value = graph.value(input);
      if (!graph::is_float(value.type)) continue;
      base::check_interrupt();
      const at::Tensor flat = dense_weight(*value.weight).reshape({-1});
      const at::Tensor bad = at::isfinite(flat).logical_not();
      if (!bad.any().item<bool>()) continue;
      const int64_t index = bad.to(at::kByte).argmax().item<int64_t>();
      fail(ErrorCode::kCorrupt, "[exec] '{}': tensor '{}': element {} is {}; weights must be finite",
           graph.origin, value.name, index, flat[index].item<float>());
    }
  }
}

}  // namespace packlight::exec

#include <ATen/ATen.h>

#include <unordered_map>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {

OperatorFunction find_operator(std::string_view op, std::string_view domain) {
  static const auto table = [] {
    std::unordered_multimap<std::string_view, const OperatorEntry*> entries;
    for (const auto family : {activation_operators(), control_operators(), convolution_operators(),
                              elementwise_operators(), index_operators(), matrix_operators(),
                              movement_operators(), normalization_operators(), pooling_operators(),
                              quantized_operators(), recurrent_operators(), reduction_operators(),
                              resampling_operators(), transformer_operators()}) {
      for (const OperatorEntry& entry : family) entries.emplace(entry.op, &entry);
    }
    return entries;
  }();
  const auto [begin, end] = table.equal_range(op);
  for (auto it = begin; it != end; ++it) {
    if (it->second->domain == domain) return it->second->run;
  }
  return nullptr;
}

std::vector<int64_t> integers(const at::Tensor& tensor) {
  const at::Tensor wide = tensor.to(at::kLong).contiguous();
  return {wide.data_ptr<int64_t>(), wide.data_ptr<int64_t>() + wide.numel()};
}

int64_t normalised_axis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank) {
    fail(ErrorCode::kInvalidArgument, "axis {} is outside a tensor of rank {}", axis, rank);
  }
  return axis < 0 ? axis + rank : axis;
}

}  // namespace packlight::exec

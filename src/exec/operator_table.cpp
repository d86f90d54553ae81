#include <fmt/format.h>
#include <ATen/ATen.h>

#include <unordered_map>

#include "base/fail.h"
#include "exec/operators.h"

namespace packlight::exec {

std::vector<const OperatorEntry*> all_operators() {
  std::vector<const OperatorEntry*> entries;
  for (const auto family :
       {activation_operators(), control_operators(), convolution_operators(), creation_operators(),
        elementwise_operators(), index_operators(), matrix_operators(), movement_operators(),
        normalization_operators(), pooling_operators(), quantized_operators(),
        recurrent_operators(), reduction_operators(), resampling_operators(),
        transformer_operators()}) {
    for (const OperatorEntry& entry : family) entries.push_back(&entry);
  }
  return entries;
}

OperatorFunction find_operator(std::string_view op, std::string_view domain) {
  static const auto table = [] {
    std::unordered_multimap<std::string_view, const OperatorEntry*> entries;
    for (const OperatorEntry* entry : all_operators()) entries.emplace(entry->op, entry);
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

int64_t integer(const at::Tensor& tensor, std::string_view what) {
  if (tensor.dim() > 1 || tensor.numel() != 1)
    fail(ErrorCode::kInvalidArgument, "{} has {} elements, not 1", what, tensor.numel());
  return tensor.item().toLong();
}

int64_t element_count(at::IntArrayRef shape) {
  constexpr int64_t kAddressable = int64_t{1} << 47;  // bytes, of a process on 64-bit processors
  int64_t count = 1;
  bool overflow = false;
  for (const int64_t size : shape) {
    if (size < 0) fail(ErrorCode::kInvalidArgument, "a size is {}", size);
    if (size == 0) return 0;
    overflow = overflow || __builtin_mul_overflow(count, size, &count) || count > kAddressable;
  }
  if (overflow)
    fail(ErrorCode::kInvalidArgument, "a tensor of shape [{}] holds more elements than memory",
         fmt::join(shape.begin(), shape.end(), ", "));
  return count;
}

int64_t normalised_axis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank) {
    fail(ErrorCode::kInvalidArgument, "axis {} is outside a tensor of rank {}", axis, rank);
  }
  return axis < 0 ? axis + rank : axis;
}

}  // namespace packlight::exec

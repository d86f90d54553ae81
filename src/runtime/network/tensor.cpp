#include "runtime/network/tensor.h"

#include <fmt/format.h>

#include "base/fail.h"

namespace packlight::runtime {

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (const int64_t dim : dims) count *= dim;
  return count;
}

uint64_t Tensor::bytes() const {
  return static_cast<uint64_t>(elements()) * codec::info(dtype).block_bytes;
}

std::string to_string(std::span<const int64_t> dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

std::vector<int64_t> integers_of(const Tensor& tensor) {
  const int64_t n = tensor.elements();
  if (tensor.dtype == codec::DType::kI64) return {tensor.as<int64_t>(), tensor.as<int64_t>() + n};
  if (tensor.dtype == codec::DType::kI32) return {tensor.as<int32_t>(), tensor.as<int32_t>() + n};
  fail(ErrorCode::kInvalidArgument, "a tensor of {} where integers belong",
       codec::info(tensor.dtype).name);
}

}  // namespace packlight::runtime

#include "runtime/network/broadcast.h"

namespace packlight::runtime {

BroadcastWalk broadcast_walk(std::span<const int64_t> output,
                             std::span<const Tensor* const> operands) {
  const size_t rank = output.size();
  std::vector<std::vector<int64_t>> strides(operands.size(), std::vector<int64_t>(rank, 0));
  for (size_t k = 0; k < operands.size(); ++k) {
    const std::vector<int64_t>& dims = operands[k]->dims;
    int64_t stride = 1;
    for (size_t i = 0; i < dims.size(); ++i) {
      const size_t from = dims.size() - 1 - i, to = rank - 1 - i;
      if (dims[from] != 1) strides[k][to] = stride;
      stride *= dims[from];
    }
  }
  // A dimension joins the one inside it when every operand steps over both alike.
  BroadcastWalk walk;
  walk.strides.resize(operands.size());
  for (size_t d = 0; d < rank; ++d) {
    if (output[d] == 1) continue;
    bool joins = !walk.dims.empty();
    for (size_t k = 0; joins && k < operands.size(); ++k)
      joins = walk.strides[k].back() == strides[k][d] * output[d];
    if (!joins) {
      walk.dims.push_back(output[d]);
      for (size_t k = 0; k < operands.size(); ++k) walk.strides[k].push_back(strides[k][d]);
    } else {
      walk.dims.back() *= output[d];
      for (size_t k = 0; k < operands.size(); ++k) walk.strides[k].back() = strides[k][d];
    }
  }
  if (walk.dims.empty()) {
    walk.dims.push_back(1);
    for (auto& s : walk.strides) s.push_back(0);
  }
  return walk;
}

}  // namespace packlight::runtime

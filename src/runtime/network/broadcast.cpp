#include "runtime/network/broadcast.h"

#include <algorithm>
#include <array>

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

void for_each_run(const BroadcastWalk& walk, int64_t begin, int64_t end, const BroadcastRun& row) {
  const int64_t inner = walk.dims.back();
  const size_t outer = walk.dims.size() - 1, operands = walk.strides.size();
  std::array<int64_t, 4> offsets{};
  for (int64_t at = begin; at < end;) {
    const int64_t column = at % inner;
    int64_t rest = at / inner;
    for (size_t k = 0; k < operands; ++k) offsets[k] = column * walk.strides[k].back();
    for (size_t d = outer; d-- > 0;) {
      const int64_t index = rest % walk.dims[d];
      rest /= walk.dims[d];
      for (size_t k = 0; k < operands; ++k) offsets[k] += index * walk.strides[k][d];
    }
    const int64_t length = std::min(inner - column, end - at);
    row(at, offsets.data(), length);
    at += length;
  }
}

void for_each_binary_run(
    const RunCall& call, const Tensor& left, const Tensor& right, const Tensor& to,
    const std::function<void(int64_t, const int64_t*, int64_t, bool, bool)>& row) {
  constexpr int64_t kGrain = 1 << 14;
  const Tensor* operands[] = {&left, &right};
  const BroadcastWalk walk = broadcast_walk(to.dims, operands);
  const bool step_left = walk.strides[0].back() != 0, step_right = walk.strides[1].back() != 0;
  call.parallel(to.elements(), kGrain, [&](int64_t begin, int64_t end) {
    for_each_run(walk, begin, end, [&](int64_t at, const int64_t* offsets, int64_t length) {
      row(at, offsets, length, step_left, step_right);
    });
  });
}

}  // namespace packlight::runtime

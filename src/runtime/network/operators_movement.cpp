#include <algorithm>
#include <numeric>

#include "runtime/network/operator.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

using codec::DType;

bool shape_shape(const ShapeCall& call) {
  const int64_t rank = call.input(0).rank();
  int64_t start = call.node.integer("start", 0), end = call.node.integer("end", rank);
  start = std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
  end = std::clamp<int64_t>(end < 0 ? end + rank : end, 0, rank);
  call.set(0, DType::kI64, {std::max<int64_t>(0, end - start)});
  return true;
}

void shape_run(const RunCall& call) {
  const int64_t rank = call.input(0).rank();
  int64_t start = call.node.integer("start", 0);
  start = std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
  std::copy_n(call.input(0).dims.begin() + start, call.output(0).elements(),
              call.output(0).as<int64_t>());
}

bool reshape_shape(const ShapeCall& call) {
  const auto wanted = call.integers(1);
  if (!wanted) return false;
  std::vector<int64_t> dims = *wanted;
  const std::vector<int64_t>& from = call.input(0).dims;
  const bool allow_zero = call.node.integer("allowzero", 0) != 0;
  int64_t rest = -1, product = 1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && !allow_zero) {
      if (i >= from.size())
        call.refuse("dimension {} of {} is copied but absent", i, to_string(from));
      dims[i] = from[i];
    }
    if (dims[i] == -1) {
      if (rest >= 0)
        call.refuse("two dimensions of the target shape {} are -1", to_string(*wanted));
      rest = static_cast<int64_t>(i);
    } else if (dims[i] < 0 || __builtin_mul_overflow(product, dims[i], &product)) {
      call.refuse("{} is no shape", to_string(*wanted));
    }
  }
  const int64_t elements = call.input(0).elements();
  if (rest >= 0) {
    if (product == 0 ? elements != 0 : elements % product != 0)
      call.refuse("{} does not reshape to {}", to_string(from), to_string(*wanted));
    dims[rest] = product == 0 ? 0 : elements / product;
  } else if (product != elements) {
    call.refuse("{} does not reshape to {}", to_string(from), to_string(*wanted));
  }
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

bool flatten_shape(const ShapeCall& call) {
  const std::vector<int64_t>& dims = call.input(0).dims;
  int64_t axis = call.node.integer("axis", 1);
  if (axis != call.input(0).rank()) axis = normalised_axis(call, axis, call.input(0).rank());
  const auto product = [](auto begin, auto end) {
    return std::accumulate(begin, end, int64_t{1}, std::multiplies<>());
  };
  call.set(0, call.input(0).dtype,
           {product(dims.begin(), dims.begin() + axis), product(dims.begin() + axis, dims.end())});
  return true;
}

std::vector<int64_t> permutation(const OperatorCall& call) {
  std::vector<int64_t> perm = call.node.integers("perm");
  const int64_t rank = call.input(0).rank();
  if (perm.empty()) {
    for (int64_t i = rank - 1; i >= 0; --i) perm.push_back(i);
  }
  std::vector<int64_t> sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t i = 0; i < static_cast<int64_t>(sorted.size()); ++i) {
    if (static_cast<int64_t>(sorted.size()) != rank || sorted[i] != i)
      call.refuse("perm is no permutation of {} axes", rank);
  }
  return perm;
}

bool transpose_shape(const ShapeCall& call) {
  std::vector<int64_t> dims;
  for (const int64_t axis : permutation(call)) dims.push_back(call.input(0).dims[axis]);
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

template <class T>
void transpose_elements(const RunCall& call) {
  const std::vector<int64_t> perm = permutation(call);
  const Tensor &in = call.input(0), &out = call.output(0);
  const size_t rank = perm.size();
  if (rank == 0) {
    *out.as<T>() = *in.as<T>();
    return;
  }
  std::vector<int64_t> source(rank, 1);  // strides of the input
  for (size_t d = rank - 1; d-- > 0;) source[d] = source[d + 1] * in.dims[d + 1];
  std::vector<int64_t> strides;
  for (const int64_t axis : perm) strides.push_back(source[axis]);
  const int64_t inner = out.dims.back(), step = strides.back();
  const T* from = in.as<T>();
  T* to = out.as<T>();
  call.parallel(inner == 0 ? 0 : out.elements() / inner,
                std::max<int64_t>(1, 16384 / std::max<int64_t>(1, inner)),
                [&](int64_t begin, int64_t end) {
                  for (int64_t row = begin; row < end; ++row) {
                    int64_t rest = row, offset = 0;
                    for (size_t d = rank - 1; d-- > 0;) {
                      offset += rest % out.dims[d] * strides[d];
                      rest /= out.dims[d];
                    }
                    for (int64_t i = 0; i < inner; ++i)
                      to[row * inner + i] = from[offset + i * step];
                  }
                });
}

void transpose(const RunCall& call) {
  for_element_size(call, call.input(0).dtype,
                   [&](auto zero) { transpose_elements<decltype(zero)>(call); });
}

constexpr Operator kOperators[] = {
    {"Shape", shape_shape, shape_run},
    {"Reshape", reshape_shape, nullptr, true},
    {"Flatten", flatten_shape, nullptr, true},
    {"Transpose", transpose_shape, transpose},
};

}  // namespace

std::span<const Operator> movement_operators() { return kOperators; }

}  // namespace packlight::runtime

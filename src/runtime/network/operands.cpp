#include "runtime/network/operands.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/network/typed.h"

namespace packlight::runtime {

int64_t product(std::span<const int64_t> dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

const Tensor& dense(const OperatorCall& call, size_t input) {
  const Tensor& tensor = call.input(input);
  if (tensor.packed != nullptr)
    call.refuse("input {} is a packed weight, which this operator does not take", input);
  return tensor;
}

void require_same_type(const OperatorCall& call, size_t a, size_t b) {
  const codec::DType left = call.input(a).dtype, right = call.input(b).dtype;
  if (left != right)
    call.refuse("element types {} and {} differ", codec::info(left).name, codec::info(right).name);
}

void require_integers(const OperatorCall& call, size_t input) {
  const codec::DType dtype = dense(call, input).dtype;
  if (dtype != codec::DType::kI64 && dtype != codec::DType::kI32)
    call.refuse("input {} has elements of {}, not integers", input, codec::info(dtype).name);
}

std::vector<int64_t> integers_in(const OperatorCall& call, size_t input) {
  require_integers(call, input);
  return integers_of(call.input(input));
}

std::optional<std::vector<double>> numbers_in(const OperatorCall& call, size_t input) {
  const Tensor& tensor = dense(call, input);
  if (!tensor.has_data()) return std::nullopt;
  std::vector<double> numbers;
  for_number_type(call, tensor.dtype, [&](auto zero) {
    const auto* from = tensor.as<decltype(zero)>();
    numbers.assign(from, from + tensor.elements());
  });
  return numbers;
}

int64_t one_integer(const OperatorCall& call, size_t input, std::string_view name) {
  const Tensor& tensor = dense(call, input);
  if (tensor.elements() != 1) call.refuse("{} has {} elements, not 1", name, tensor.elements());
  if (tensor.dtype == codec::DType::kI64) return *tensor.as<int64_t>();  // exact
  const double number = numbers_in(call, input)->front();
  constexpr double kMost = 0x1p62;
  if (!(std::abs(number) <= kMost)) call.refuse("{} is {}", name, number);
  return static_cast<int64_t>(number);
}

std::vector<int64_t> distinct_axes(const OperatorCall& call, std::vector<int64_t> axes,
                                   int64_t rank) {
  std::vector<bool> seen(rank, false);
  for (int64_t& axis : axes) {
    axis = normalised_axis(call, axis, rank);
    if (seen[axis]) call.refuse("axis {} is given twice", axis);
    seen[axis] = true;
  }
  return axes;
}

std::vector<int64_t> all_axes(int64_t rank) {
  std::vector<int64_t> axes(rank);
  std::iota(axes.begin(), axes.end(), 0);
  return axes;
}

}  // namespace packlight::runtime

#include "runtime/network/quantized_codes.h"

#include "runtime/network/float_input.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {

std::vector<float> numbers_as_floats(const RunCall& call, size_t input) {
  const Tensor& tensor = call.input(input);
  std::vector<float> numbers;
  if (tensor.packed != nullptr || codec::is_float(tensor.dtype)) {
    const float* data = float_input(call, input, numbers);
    if (data != numbers.data()) numbers.assign(data, data + tensor.elements());
    return numbers;
  }
  for_number_type(call, tensor.dtype, [&](auto zero) {
    const auto* data = tensor.as<decltype(zero)>();
    for (int64_t i = 0; i < tensor.elements(); ++i) numbers.push_back(static_cast<float>(data[i]));
  });
  return numbers;
}

void check_codes(const OperatorCall& call, size_t input) {
  const codec::DType dtype = call.input(input).dtype;
  if (dtype != codec::DType::kI8 && dtype != codec::DType::kU8)
    call.refuse("input {} is {}, not I8 or U8", input, codec::info(dtype).name);
}

void check_zero_type(const OperatorCall& call, size_t zero, size_t codes) {
  if (call.has(zero) && call.input(zero).dtype != call.input(codes).dtype)
    call.refuse("the zero point is {}, what it belongs to {}",
                codec::info(call.input(zero).dtype).name,
                codec::info(call.input(codes).dtype).name);
}

std::vector<int64_t> dims_along(const OperatorCall& call, const Tensor& parameter,
                                const std::vector<int64_t>& dims, int64_t axis) {
  if (parameter.elements() == 1) return {};
  std::vector<int64_t> out = parameter.dims;
  if (out.size() == 1) {
    out.assign(dims.size(), 1);
    if (axis < static_cast<int64_t>(dims.size()) && axis >= 0) out[axis] = parameter.dims[0];
  }
  int64_t elements = 1;
  for (const int64_t dim : out) elements *= dim;
  if (elements != parameter.elements() || broadcast(call, dims, out) != dims)
    call.refuse("scales or zero points {} do not fit {}", to_string(parameter.dims),
                to_string(dims));
  return out;
}

}  // namespace packlight::runtime

#include <algorithm>

#include "operators/element_types.h"
#include "runtime/network/operator.h"
#include "runtime/network/quantized_codes.h"
#include "runtime/network/quantized_products.h"

namespace packlight::runtime {
namespace {

using codec::DType;

enum Input : size_t { kX, kScale, kZero };

// How scales and zero points belong to elements: one for all, one along `axis`, or one for each
// block of `block_size` along it. Elements are rows of `inner` ones, and the parameters of a row
// begin at offset(row) and step by `step`.
struct Granularity {
  int64_t rows = 0, inner = 0;
  int64_t size = 1, block = 0, blocks = 1;  // of the axis; block 0: not blocked
  int64_t step = 0;

  int64_t offset(int64_t row) const {
    if (block > 0) return (row / size * blocks + row % size / block) * inner;
    return row % size;
  }
};

void check_parameters(const OperatorCall& call, const std::vector<int64_t>& wanted) {
  for (const size_t input : {kScale, kZero}) {
    if (call.has(input) && call.input(input).dims != wanted)
      call.refuse("scale or zero point {} should be {}", to_string(call.input(input).dims),
                  to_string(wanted));
  }
}

bool is_single(const Tensor& tensor) { return tensor.elements() == 1 && tensor.rank() <= 1; }

Granularity granularity_of(const OperatorCall& call) {
  constexpr int64_t kPiece = 4096;  // elements that share a parameter, as rows for threads
  const Tensor &x = call.input(kX), &scale = call.input(kScale);
  const int64_t block = call.node.integer("block_size", 0), count = x.elements();
  if (block < 0) call.refuse("block_size {} is negative", block);
  Granularity it;
  if (is_single(scale) && (!call.has(kZero) || is_single(call.input(kZero)))) {
    it.rows = (count + kPiece - 1) / kPiece;
    it.inner = kPiece;
    return it;
  }
  const int64_t axis = normalised_axis(call, call.node.integer("axis", 1), x.rank());
  it.size = x.dims[axis];
  it.block = block;
  std::vector<int64_t> wanted{it.size};
  if (block > 0) {
    it.blocks = it.size / block + (it.size % block != 0);
    wanted = x.dims;
    wanted[axis] = it.blocks;
  }
  check_parameters(call, wanted);
  it.inner = 1;
  for (int64_t i = axis + 1; i < x.rank(); ++i) it.inner *= x.dims[i];
  if (block == 0 && it.inner == 1) {  // the last axis: a row is all of it
    it.inner = it.size;
    it.size = 1;
    it.step = 1;
  }
  if (block > 0) it.step = 1;
  it.rows = it.inner == 0 ? 0 : count / it.inner;
  return it;
}

// fn(element, its scale, its zero point) for all elements.
template <class Fn>
void for_each_element(const RunCall& call, const Fn& fn) {
  const Granularity it = granularity_of(call);
  const int64_t count = call.input(kX).elements();
  const std::vector<float> scales = numbers_as_floats(call, kScale);
  std::vector<float> zeros(scales.size(), 0.f);
  if (call.has(kZero)) zeros = numbers_as_floats(call, kZero);
  call.parallel(it.rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, it.inner)),
                [&](int64_t begin, int64_t end) {
                  for (int64_t row = begin; row < end; ++row) {
                    const int64_t at = row * it.inner, n = std::min(it.inner, count - at);
                    const float *scale = scales.data() + it.offset(row),
                                *zero = zeros.data() + it.offset(row);
                    for (int64_t i = 0; i < n; ++i)
                      fn(at + i, scale[i * it.step], zero[i * it.step]);
                  }
                });
}

// By its number in ONNX, or U8 when it is not given.
DType wanted_type(const OperatorCall& call) {
  const int64_t number = call.node.integer("output_dtype", 0);
  const DType type = operators::dtype_of_onnx(number == 0 ? 2 : number).value_or(DType::kF32);
  if (type != DType::kU8 && type != DType::kI8 && type != DType::kI16)
    call.refuse("output_dtype {} is not I8, U8 or I16", number);
  return type;
}

bool quantize_shape(const ShapeCall& call) {
  granularity_of(call);
  DType type = wanted_type(call);
  if (call.has(kZero)) {
    const DType zero = call.input(kZero).dtype;
    if (call.node.integer("output_dtype", 0) != 0 && zero != type)
      call.refuse("output_dtype differs from the zero point's {}", codec::info(zero).name);
    type = zero;
  }
  for_code_type(call, type, [](auto) {});
  const DType from = call.input(kX).dtype;
  if (from != DType::kF32 && from != DType::kI32)
    call.refuse("elements of {} are not supported", codec::info(from).name);
  call.set(0, type, call.input(kX).dims);
  return true;
}

void quantize(const RunCall& call) {
  for_code_type(call, call.output(0).dtype, [&](auto code) {
    using Code = decltype(code);
    Code* out = call.output(0).as<Code>();
    const auto run = [&](const auto* x) {
      for_each_element(call, [=](int64_t i, float scale, float zero) {
        out[i] = encode<Code>(static_cast<float>(x[i]) / scale, zero);
      });
    };
    if (call.input(kX).dtype == DType::kI32)
      run(call.input(kX).as<int32_t>());
    else
      run(call.input(kX).as<float>());
  });
}

bool dequantize_shape(const ShapeCall& call) {
  const DType type = call.input(kX).dtype;
  if (type != DType::kI32) for_code_type(call, type, [](auto) {});
  check_zero_type(call, kZero, kX);
  granularity_of(call);
  call.set(0, DType::kF32, call.input(kX).dims);
  return true;
}

void dequantize(const RunCall& call) {
  float* out = call.output(0).as<float>();
  const auto run = [&](const auto* codes) {
    for_each_element(call, [=](int64_t i, float scale, float zero) {
      out[i] = (static_cast<float>(codes[i]) - zero) * scale;
    });
  };
  if (call.input(kX).dtype == DType::kI32) return run(call.input(kX).as<int32_t>());
  for_code_type(call, call.input(kX).dtype,
                [&](auto code) { run(call.input(kX).as<decltype(code)>()); });
}

bool dynamic_quantize_shape(const ShapeCall& call) {
  if (call.input(kX).dtype != DType::kF32)
    call.refuse("elements of {} are not supported", codec::info(call.input(kX).dtype).name);
  call.set(0, DType::kU8, call.input(kX).dims);
  call.set(1, DType::kF32, {});
  call.set(2, DType::kU8, {});
  return true;
}

void dynamic_quantize(const RunCall& call) {
  constexpr float kHigh = 255;
  const float* x = call.input(kX).as<float>();
  const int64_t count = call.input(kX).elements();
  float low = 0, high = 0;  // the range always holds zero
  for (int64_t i = 0; i < count; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  const float scale = (high == low ? 1.f : high - low) / kHigh;
  const float zero = round_to_even(std::clamp(-low / scale, 0.f, kHigh));
  auto* codes = call.output(0).as<uint8_t>();
  call.parallel(count, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) codes[i] = encode<uint8_t>(x[i] / scale, zero);
  });
  if (call.wants(1)) *call.output(1).as<float>() = scale;
  if (call.wants(2)) *call.output(2).as<uint8_t>() = encode<uint8_t>(zero, 0);
}

constexpr Operator kOperators[] = {
    {"QuantizeLinear", quantize_shape, quantize},
    {"DequantizeLinear", dequantize_shape, dequantize},
    {"DynamicQuantizeLinear", dynamic_quantize_shape, dynamic_quantize},
    {"MatMulInteger", matmul_integer_shape, matmul_integer},
    {"ConvInteger", conv_integer_shape, conv_integer},
    {"QLinearMatMul", qlinear_matmul_shape, qlinear_matmul},
    {"QLinearConv", qlinear_conv_shape, qlinear_conv},
    {"MatMulNBits", matmul_nbits_shape, matmul_nbits, false, false, "com.microsoft"},
};

}  // namespace

std::span<const Operator> quantized_operators() { return kOperators; }

}  // namespace packlight::runtime

#include "runtime/network/convolution_bands.h"
#include "runtime/network/float_input.h"
#include "runtime/network/fuse.h"
#include "runtime/network/fused_activation.h"
#include "runtime/network/int8_products.h"

// What fuse() makes of several nodes. Their inputs and attributes are those that it writes, in no
// file; but what they are run on comes from one, so shapes are checked again.
namespace packlight::runtime {
namespace {

using codec::DType;

enum Input : size_t { kX, kQuads, kStart, kScale, kBias, kFactors };

void check_float(const OperatorCall& call, size_t input) {
  if (call.input(input).dtype != DType::kF32 || call.input(input).packed != nullptr)
    call.refuse("input {} is not F32", input);
}

kernels::CodeRange range_of(const OperatorCall& call) {
  kernels::CodeRange range;
  range.scale = static_cast<float>(call.node.number(kXScale, 0));
  const int64_t zero = call.node.integer(kXZero, -1);
  if (!(range.scale > 0) || zero < 0 || zero > 255)
    call.refuse("codes of scale {} and zero point {}", range.scale, zero);
  range.zero = static_cast<int32_t>(zero);
  return range;
}

// With the factors of that many channels, where the node has them.
kernels::CodeRange range_of(const OperatorCall& call, int64_t channels) {
  kernels::CodeRange range = range_of(call);
  if (!call.has(kFactors)) return range;
  check_float(call, kFactors);
  if (call.input(kFactors).dims != std::vector<int64_t>{channels})
    call.refuse("factors {} of {} channels", to_string(call.input(kFactors).dims), channels);
  range.factors = call.input(kFactors).as<float>();
  return range;
}

// Weights for that many outputs, whose quads have these dimensions.
Int8Weights weights_of(const OperatorCall& call, int64_t outputs, std::vector<int64_t> quads) {
  const std::vector<int64_t> vector{outputs};
  const auto expect = [&](size_t input, DType dtype, const std::vector<int64_t>& dims) {
    const Tensor& tensor = call.input(input);
    if (tensor.dtype != dtype || tensor.packed != nullptr || tensor.dims != dims)
      call.refuse("input {} is {} of {}, not {} of {}", input, to_string(tensor.dims),
                  codec::info(tensor.dtype).name, to_string(dims), codec::info(dtype).name);
  };
  expect(kQuads, DType::kI8, quads);
  expect(kStart, DType::kI32, vector);
  expect(kScale, DType::kF32, vector);
  if (call.has(kBias)) expect(kBias, DType::kF32, vector);
  return {call.input(kQuads).as<uint8_t>(), call.input(kStart).as<int32_t>(),
          call.input(kScale).as<float>(),
          call.has(kBias) ? call.input(kBias).as<float>() : nullptr};
}

struct Int8Conv {
  Convolution convolution;
  Int8Weights weights;
};

Int8Conv int8_conv_of(const OperatorCall& call) {
  check_float(call, kX);
  Tensor weight;
  weight.dims = call.node.integers(kWeightShape);
  const std::string wrong = check_dims(weight.dims);
  if (!wrong.empty()) call.refuse("weight {}: {}", to_string(weight.dims), wrong);
  Int8Conv it{convolution_of(call, call.input(kX), weight), {}};
  const Convolution& conv = it.convolution;
  if (conv.groups != 1 || !is_flat(conv.window) || !fits_codes(conv.window.axes) ||
      !fits_sum(conv.inner()))
    call.refuse("no kernel for this convolution of codes");
  it.weights = weights_of(call, conv.maps,
                          {conv.maps, 4 * quads_of(conv.channels) * conv.window.kernel_size()});
  return it;
}

bool int8_conv_shape(const ShapeCall& call) {
  const Convolution it = int8_conv_of(call).convolution;
  range_of(call, it.channels);
  call.set(0, DType::kF32, it.window.dims(it.batch, it.maps, it.window.stops));
  return true;
}

void int8_conv(const RunCall& call) {
  if (call.output(0).elements() == 0) return;
  const Int8Conv it = int8_conv_of(call);
  convolve_int8(call, it.convolution, call.input(kX).as<float>(),
                range_of(call, it.convolution.channels), it.weights, fused_activation(call.node),
                call.output(0).as<float>());
}

struct Int8MatMul {
  int64_t rows, columns, inner;
  Int8Weights weights;
};

Int8MatMul int8_matmul_of(const OperatorCall& call) {
  check_float(call, kX);
  const Tensor &a = call.input(kX), &start = call.input(kStart);
  if (a.rank() < 1 || start.rank() != 1) call.refuse("a factor of shape {}", to_string(a.dims));
  Int8MatMul it{1, start.dims[0], a.dims.back(), {}};
  if (it.inner != call.node.integer(kInner, -1))
    call.refuse("rows of {}, weights for {}", it.inner, call.node.integer(kInner, -1));
  if (!fits_sum(it.inner)) call.refuse("sums of {} terms", it.inner);
  for (size_t i = 0; i + 1 < a.dims.size(); ++i) it.rows *= a.dims[i];
  it.weights = weights_of(call, it.columns, {quads_of(it.inner), 4 * it.columns});
  return it;
}

bool int8_matmul_shape(const ShapeCall& call) {
  const Int8MatMul it = int8_matmul_of(call);
  range_of(call, it.inner);
  std::vector<int64_t> dims = call.input(kX).dims;
  dims.back() = it.columns;
  call.set(0, DType::kF32, dims);
  return true;
}

void int8_matmul(const RunCall& call) {
  if (call.output(0).elements() == 0) return;
  const Int8MatMul it = int8_matmul_of(call);
  multiply_int8(call, it.rows, it.columns, it.inner, call.input(kX).as<float>(),
                range_of(call, it.inner), it.weights, fused_activation(call.node),
                call.output(0).as<float>());
}

bool round_to_codes_shape(const ShapeCall& call) {
  check_float(call, kX);
  range_of(call);
  call.set(0, DType::kF32, call.input(kX).dims);
  return true;
}

void round_to_codes(const RunCall& call) {
  constexpr int64_t kGrain = 1 << 14;
  const kernels::CodeRange range = range_of(call);
  const float* x = call.input(kX).as<float>();
  float* y = call.output(0).as<float>();
  call.parallel(call.output(0).elements(), kGrain, [&](int64_t begin, int64_t end) {
    kernels::active().round_to_codes(x + begin, end - begin, range, y + begin);
  });
}

constexpr Operator kOperators[] = {
    {.op = "Int8Conv", .shape = int8_conv_shape, .run = int8_conv, .domain = kFusedDomain},
    {.op = "Int8MatMul", .shape = int8_matmul_shape, .run = int8_matmul, .domain = kFusedDomain},
    {.op = "RoundToCodes",
     .shape = round_to_codes_shape,
     .run = round_to_codes,
     .in_place = true,
     .domain = kFusedDomain},
};

}  // namespace

std::span<const Operator> fused_operators() { return kOperators; }

}  // namespace packlight::runtime

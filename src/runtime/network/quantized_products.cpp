#include "runtime/network/quantized_products.h"

#include "runtime/network/broadcast.h"
#include "runtime/network/convolution.h"
#include "runtime/network/matmul_shape.h"
#include "runtime/network/matrix_product.h"
#include "runtime/network/quantized_codes.h"

namespace packlight::runtime {
namespace {

using codec::DType;
using Dims = std::vector<int64_t>;

// The inputs of an operator that matter to its sums.
struct Inputs {
  size_t a, a_zero, b, b_zero;
};
constexpr Inputs kInteger{0, 2, 1, 3};
constexpr Inputs kLinear{0, 2, 3, 5};  // x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero
enum LinearInput : size_t { kAScale = 1, kBScale = 4, kYScale = 6, kYZero = 7, kBias = 8 };

// Sums of products of two differences of 8-bit codes fit 32 bits up to here.
constexpr int64_t kMostTerms32 = (int64_t{1} << 31) / (255 * 255) - 1;

Tensor shaped(Dims dims) {
  Tensor tensor;
  tensor.dims = std::move(dims);
  return tensor;
}

// Codes less their zero points, which go along `axis`.
template <class Sum>
std::vector<Sum> centred(const RunCall& call, size_t codes_input, size_t zero_input, int64_t axis) {
  const Tensor& codes = call.input(codes_input);
  const int64_t count = codes.elements();
  std::vector<Sum> out(count);
  for_code_type(call, codes.dtype, [&](auto code) {
    const auto* from = codes.as<decltype(code)>();
    if (!call.has(zero_input)) {
      std::copy_n(from, count, out.begin());
      return;
    }
    const Tensor& zero = call.input(zero_input);
    const auto* zeros = zero.as<decltype(code)>();
    const Tensor along = shaped(dims_along(call, zero, codes.dims, axis));
    const Tensor* operands[] = {&along};
    const BroadcastWalk walk = broadcast_walk(codes.dims, operands);
    const int64_t step = walk.strides[0].back();
    if (count == 0) return;
    for_each_run(walk, 0, count, [&](int64_t at, const int64_t* offsets, int64_t n) {
      for (int64_t i = 0; i < n; ++i)
        out[at + i] = static_cast<Sum>(from[at + i]) - zeros[offsets[0] + i * step];
    });
  });
  return out;
}

MatMulShape product_shape(const OperatorCall& call, const Inputs& in) {
  return matmul_shape(call, call.input(in.a).dims, call.input(in.b).dims);
}

// Zero points of a go with its rows, those of b with its columns.
template <class Sum>
void integer_product(const RunCall& call, const Inputs& in, Sum* sums) {
  const Dims &a_dims = call.input(in.a).dims, &b_dims = call.input(in.b).dims;
  const MatMulShape shape = product_shape(call, in);
  if (call.output(0).elements() == 0) return;
  const std::vector<Sum> a = centred<Sum>(call, in.a, in.a_zero, call.input(in.a).rank() - 2),
                         b = centred<Sum>(call, in.b, in.b_zero, call.input(in.b).rank() - 1);
  const Dims a_matrices = shape.matrices_of(a_dims), b_matrices = shape.matrices_of(b_dims);
  const int64_t m = shape.m, n = shape.n, k = shape.k;
  std::vector<MatrixProduct<Sum>> products;
  for (size_t i = 0; i < a_matrices.size(); ++i) {
    products.push_back({m,
                        n,
                        k,
                        {a.data() + a_matrices[i] * m * k, k, 1},
                        {b.data() + b_matrices[i] * k * n, n, 1},
                        sums + static_cast<int64_t>(i) * m * n,
                        n});
  }
  multiply_all<Sum>(call, products);
}

void check_inputs(const OperatorCall& call, const Inputs& in) {
  check_codes(call, in.a);
  check_codes(call, in.b);
  check_zero_type(call, in.a_zero, in.a);
  check_zero_type(call, in.b_zero, in.b);
  const Tensor &a = call.input(in.a), &b = call.input(in.b);
  if (a.packed != nullptr || b.packed != nullptr) call.refuse("a packed matrix where codes belong");
}

void check_linear(const OperatorCall& call) {
  check_inputs(call, kLinear);
  for (const size_t input : {kLinear.a_zero, kLinear.b_zero}) call.input(input);
  for (const size_t input : {kAScale, kBScale, kYScale}) {
    if (!codec::is_float(call.input(input).dtype))
      call.refuse("scale {} is {}", input, codec::info(call.input(input).dtype).name);
  }
  check_codes(call, kYZero);
}

// Integer sums -> codes of y, in F32, as ONNX Runtime requantizes. Scales and zero points of a and
// y go along `row_axis`, scales of b along `column_axis`.
template <class Sum>
void requantize(const RunCall& call, const std::vector<Sum>& sums, int64_t row_axis,
                int64_t column_axis) {
  const Tensor& out = call.output(0);
  if (out.elements() == 0) return;
  constexpr size_t kInputs[] = {kAScale, kBScale, kYScale, kYZero};
  std::vector<float> values[4];
  std::vector<Tensor> shapes;
  for (size_t i = 0; i < 4; ++i) {
    values[i] = numbers_as_floats(call, kInputs[i]);
    shapes.push_back(shaped(dims_along(call, call.input(kInputs[i]), out.dims,
                                       kInputs[i] == kBScale ? column_axis : row_axis)));
  }
  const Tensor* operands[] = {&shapes[0], &shapes[1], &shapes[2], &shapes[3]};
  const BroadcastWalk walk = broadcast_walk(out.dims, operands);
  for_code_type(call, out.dtype, [&](auto code) {
    using Code = decltype(code);
    call.parallel(out.elements(), 4096, [&](int64_t begin, int64_t end) {
      for_each_run(walk, begin, end, [&](int64_t at, const int64_t* offsets, int64_t n) {
        const auto value = [&](size_t which, int64_t i) {
          return values[which][offsets[which] + i * walk.strides[which].back()];
        };
        for (int64_t i = 0; i < n; ++i) {
          const float factor = value(0, i) * value(1, i) / value(2, i);
          out.as<Code>()[at + i] =
              encode<Code>(static_cast<float>(sums[at + i]) * factor, value(3, i));
        }
      });
    });
  });
}

Convolution integer_convolution_of(const OperatorCall& call, const Inputs& in) {
  return convolution_of(call, call.input(in.a), call.input(in.b));
}

// y += the convolution of what is left of the codes.
void add_convolution(const RunCall& call, const Inputs& in, const Convolution& it, int32_t* sums) {
  const std::vector<int32_t> x = centred<int32_t>(call, in.a, in.a_zero, 1),
                             weight = centred<int32_t>(call, in.b, in.b_zero, 0);
  convolve(call, it, x.data(), weight.data(), sums);
}

template <class Sum>
void qlinear_matmul_with(const RunCall& call) {
  std::vector<Sum> sums(call.output(0).elements(), 0);
  integer_product(call, kLinear, sums.data());
  requantize(call, sums, call.output(0).rank() - 2, call.output(0).rank() - 1);
}

}  // namespace

bool matmul_integer_shape(const ShapeCall& call) {
  check_inputs(call, kInteger);
  call.set(0, DType::kI32, product_shape(call, kInteger).output);
  return true;
}

// Sums beyond 32 bits wrap, as the specification allows.
void matmul_integer(const RunCall& call) {
  auto* sums = call.output(0).as<int32_t>();
  std::fill_n(sums, call.output(0).elements(), 0);
  integer_product(call, kInteger, sums);
}

bool qlinear_matmul_shape(const ShapeCall& call) {
  check_linear(call);
  call.set(0, call.input(kYZero).dtype, product_shape(call, kLinear).output);
  return true;
}

void qlinear_matmul(const RunCall& call) {
  if (product_shape(call, kLinear).k <= kMostTerms32)
    qlinear_matmul_with<int32_t>(call);
  else
    qlinear_matmul_with<int64_t>(call);
}

bool conv_integer_shape(const ShapeCall& call) {
  check_inputs(call, kInteger);
  const Convolution it = integer_convolution_of(call, kInteger);
  call.set(0, DType::kI32, it.window.dims(it.batch, it.maps, it.window.stops));
  return true;
}

void conv_integer(const RunCall& call) {
  auto* sums = call.output(0).as<int32_t>();
  std::fill_n(sums, call.output(0).elements(), 0);
  add_convolution(call, kInteger, integer_convolution_of(call, kInteger), sums);
}

bool qlinear_conv_shape(const ShapeCall& call) {
  check_linear(call);
  const Convolution it = integer_convolution_of(call, kLinear);
  if (it.inner() > kMostTerms32) call.refuse("sums of {} products of codes", it.inner());
  if (call.has(kBias) &&
      (call.input(kBias).dtype != DType::kI32 || call.input(kBias).dims != Dims{it.maps}))
    call.refuse("the bias {} is no vector of {} I32", to_string(call.input(kBias).dims), it.maps);
  call.set(0, call.input(kYZero).dtype, it.window.dims(it.batch, it.maps, it.window.stops));
  return true;
}

void qlinear_conv(const RunCall& call) {
  const Convolution it = integer_convolution_of(call, kLinear);
  std::vector<int32_t> sums(call.output(0).elements(), 0);
  add_convolution(call, kLinear, it, sums.data());
  // The bias in 64 bits: with it a sum may pass 32.
  std::vector<int64_t> all(sums.begin(), sums.end());
  const int64_t plane = it.window.stop_count();
  for (size_t i = 0; call.has(kBias) && i < all.size(); ++i)
    all[i] += call.input(kBias).as<int32_t>()[static_cast<int64_t>(i) / plane % it.maps];
  requantize(call, all, 1, 1);
}

}  // namespace packlight::runtime

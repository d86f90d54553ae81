#include <initializer_list>

#include "graph/expect_shape.h"
#include "graph/matmul_shape.h"
#include "graph/operator_rules.h"
#include "graph/window_rules.h"
#include "graph/weight.h"

namespace packlight::graph {
namespace {

bool is_code(ElementType type) { return type == ElementType::kI8 || type == ElementType::kU8; }

void expect_type(const InferContext& context, size_t input, std::string_view name, bool fits) {
  if (context.type(input) == ElementType::kUndefined || fits) return;
  context.contradiction("{} is {}", name, element_type_name(context.type(input)));
}

void expect_codes(const InferContext& context, std::initializer_list<size_t> inputs) {
  for (const size_t input : inputs)
    expect_type(context, input, "a quantized input (I8 or U8)", is_code(context.type(input)));
}

// A zero point has the type of what it belongs to.
void expect_same_type(const InferContext& context, size_t zero_point, size_t codes) {
  const ElementType a = context.type(zero_point), b = context.type(codes);
  if (a == ElementType::kUndefined || b == ElementType::kUndefined || a == b) return;
  context.contradiction("the zero point is {}, what it belongs to {}", element_type_name(a),
                        element_type_name(b));
}

// Scales of x: one, one along `axis`, or one for each block of `block_size` along it.
void check_granularity(const InferContext& context, size_t scale_input) {
  const auto &x = context.shape(0), &scale = context.shape(scale_input);
  const int64_t block = context.node().integer("block_size", 0);
  if (block < 0) context.contradiction("block_size {} is negative", block);
  if (!x || !scale || scale->empty() || (scale->size() == 1 && (*scale)[0].value == 1)) return;
  const int64_t axis =
      normalised_axis(context, context.node().integer("axis", 1), static_cast<int64_t>(x->size()));
  Shape wanted;
  if (block == 0) {
    wanted = {(*x)[axis]};
  } else {
    wanted = *x;
    if (wanted[axis].known())
      wanted[axis] = wanted[axis].value / block + (wanted[axis].value % block != 0);
    else
      wanted[axis] = Dim();
  }
  expect_shape(context, scale_input, scale_input == 1 ? "the scale" : "the zero point", wanted);
}

void infer_quantize(InferContext& context) {
  const int64_t given = context.node().integer("output_dtype", 0);
  ElementType type = ElementType::kU8;
  if (context.has(2)) type = context.type(2);
  if (given != 0) {
    const ElementType wanted = from_onnx_type(given);
    if (context.has(2) && type != ElementType::kUndefined && type != wanted) {
      context.contradiction("output_dtype {} differs from the zero point's {}",
                            element_type_name(wanted), element_type_name(type));
    }
    type = wanted;
  }
  const bool fits = type == ElementType::kUndefined || is_code(type) || type == ElementType::kI16;
  if (!fits) context.contradiction("the output is {}, not I8, U8 or I16", element_type_name(type));
  check_granularity(context, 1);
  check_granularity(context, 2);
  context.set(0, type, context.shape(0));
}

void infer_dequantize(InferContext& context) {
  expect_type(context, 0, "x (I8, U8, I16 or I32)",
              is_code(context.type(0)) || context.type(0) == ElementType::kI16 ||
                  context.type(0) == ElementType::kI32);
  expect_same_type(context, 2, 0);
  check_granularity(context, 1);
  check_granularity(context, 2);
  context.set(0, ElementType::kF32, context.shape(0));
}

void infer_dynamic_quantize(InferContext& context) {
  context.set(0, ElementType::kU8, context.shape(0));
  context.set(1, ElementType::kF32, Shape{});
  context.set(2, ElementType::kU8, Shape{});
}

void infer_matmul_integer(InferContext& context) {
  expect_codes(context, {0, 1});
  expect_same_type(context, 2, 0);
  expect_same_type(context, 3, 1);
  context.set(0, ElementType::kI32, matmul_shape(context, 0, 1));
}

// a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero.
void infer_qlinear_matmul(InferContext& context) {
  expect_codes(context, {0, 3});
  expect_same_type(context, 2, 0);
  expect_same_type(context, 5, 3);
  context.set(0, context.type(7), matmul_shape(context, 0, 3));
}

void infer_conv_integer(InferContext& context) {
  expect_codes(context, {0, 1});
  expect_same_type(context, 2, 0);
  expect_same_type(context, 3, 1);
  infer_convolution(context, ElementType::kI32, 1);
}

// x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias.
void infer_qlinear_conv(InferContext& context) {
  expect_codes(context, {0, 3});
  expect_same_type(context, 2, 0);
  expect_same_type(context, 5, 3);
  const auto& w = context.shape(3);
  if (w && !w->empty()) expect_shape(context, 8, "the bias", {(*w)[0]});
  infer_convolution(context, context.type(7), 3);
}

// An attribute that must be there and positive.
int64_t positive(const InferContext& context, const char* attribute) {
  const int64_t value = context.node().integer(attribute, 0);
  if (value <= 0 || value > (int64_t{1} << 40)) context.contradiction("{} is {}", attribute, value);
  return value;
}

// A [..., K] x B^T, B [N, blocks of a row, bytes of a block] -> [..., N].
void infer_matmul_nbits(InferContext& context) {
  const int64_t k = positive(context, "K"), n = positive(context, "N"),
                block = positive(context, "block_size");
  const int64_t bits = context.node().integer("bits", 4);
  if (bits != 4 && bits != 8)
    fail(ErrorCode::kUnsupported, "[graph] node '{}' (MatMulNBits): bits {}; 4 and 8 are supported",
         context.node().name, bits);
  if (block < 16 || (block & (block - 1)) != 0)
    context.contradiction("block_size {} is no power of two of 16 or more", block);
  expect_shape(context, 1, "B", {n, (k - 1) / block + 1, block / 8 * bits});
  if (context.has(5)) expect_shape(context, 5, "the bias", {n});
  const auto& a = context.shape(0);
  if (!a) return context.set(0, context.type(0), std::nullopt);
  if (a->empty() || !compatible(a->back(), k))
    context.contradiction("A {} does not end in K = {}", to_string(*a), k);
  Shape out = *a;
  out.back() = n;
  context.set(0, context.type(0), std::move(out));
}

constexpr OperatorRule kRules[] = {
    {"QuantizeLinear", 2, 3, 1, 1, infer_quantize},
    {"DequantizeLinear", 2, 3, 1, 1, infer_dequantize},
    {"DynamicQuantizeLinear", 1, 1, 3, 3, infer_dynamic_quantize},
    {"MatMulInteger", 2, 4, 1, 1, infer_matmul_integer},
    {"ConvInteger", 2, 4, 1, 1, infer_conv_integer},
    {"QLinearMatMul", 8, 8, 1, 1, infer_qlinear_matmul},
    {"QLinearConv", 8, 9, 1, 1, infer_qlinear_conv},
    {"MatMulNBits", 3, 6, 1, 1, infer_matmul_nbits, "com.microsoft"},
};

}  // namespace

std::span<const OperatorRule> quantized_rules() { return kRules; }

}  // namespace packlight::graph

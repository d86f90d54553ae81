// com.microsoft's MatMulNBits, version 1
// (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
#include <ATen/ATen.h>

#include "base/fail.h"
#include "exec/quantized_parts.h"

namespace packlight::exec {
namespace {

enum Input : size_t { kA, kB, kScales, kZeroPoints, kGroupIndex, kBias };

struct Layout {
  int64_t k, n, block, bits;
  int64_t blocks() const { return (k - 1) / block + 1; }  // of a row
};

Layout read_layout(const graph::Node& node) {
  const Layout layout{node.integer("K", 0), node.integer("N", 0), node.integer("block_size", 0),
                      node.integer("bits", 4)};
  if (layout.bits != 4 && layout.bits != 8)
    fail(ErrorCode::kUnsupported, "bits {}; 4 and 8 are supported", layout.bits);
  const bool power = layout.block >= 16 && (layout.block & (layout.block - 1)) == 0;
  if (layout.k <= 0 || layout.n <= 0 || !power) {
    fail(ErrorCode::kInvalidArgument, "K {}, N {}, block_size {} (a power of two of 16 or more)",
         layout.k, layout.n, layout.block);
  }
  return layout;
}

// Bytes -> codes along the last dimension, the low half of a byte first.
at::Tensor unpack(const at::Tensor& bytes, int64_t bits) {
  if (bits == 8) return bytes;
  const at::Tensor low = at::bitwise_and(bytes, 15), high = at::bitwise_right_shift(bytes, 4);
  return at::stack({low, high}, -1).flatten(-2);
}

void expect_count(const at::Tensor& tensor, int64_t wanted, const char* name) {
  if (tensor.numel() == wanted) return;
  fail(ErrorCode::kInvalidArgument, "{} has {} elements, not {}", name, tensor.numel(), wanted);
}

// [N, blocks, 1] in F32. Packed ones begin a new byte for each row.
at::Tensor zero_points(const Call& call, const Layout& layout) {
  const int64_t blocks = layout.blocks();
  if (!call.has(kZeroPoints))  // the middle of the codes
    return at::full({1, 1, 1}, 1 << (layout.bits - 1), at::kFloat);
  const at::Tensor& given = call.inputs[kZeroPoints];
  if (at::isFloatingType(given.scalar_type())) {
    expect_count(given, layout.n * blocks, "zero_points");
    return given.reshape({layout.n, blocks, 1});
  }
  const int64_t row_bytes = (blocks * layout.bits + 7) / 8;
  expect_count(given, layout.n * row_bytes, "zero_points");
  return unpack(given.reshape({layout.n, row_bytes}), layout.bits)
      .narrow(1, 0, blocks)
      .unsqueeze(2)
      .to(at::kFloat);
}

}  // namespace

std::vector<at::Tensor> matmul_nbits(const Call& call) {
  const Layout layout = read_layout(call.node);
  if (call.has(kGroupIndex)) fail(ErrorCode::kUnsupported, "g_idx (columns in another order)");
  const at::Tensor &a = call.inputs[kA], &b = call.inputs[kB], &scales = call.inputs[kScales];
  const int64_t blocks = layout.blocks();
  if (a.dim() == 0 || a.size(-1) != layout.k)
    fail(ErrorCode::kInvalidArgument, "A does not end in K = {}", layout.k);
  if (b.scalar_type() != at::kByte)
    fail(ErrorCode::kInvalidArgument, "B is {}, not U8", c10::toString(b.scalar_type()));
  const int64_t block_bytes = layout.block / 8 * layout.bits;
  expect_count(b, layout.n * blocks * block_bytes, "B");
  expect_count(scales, layout.n * blocks, "scales");
  const at::Tensor codes =
      unpack(b.reshape({layout.n, blocks, block_bytes}), layout.bits).to(at::kFloat);
  const at::Tensor weight =
      ((codes - zero_points(call, layout)) * scales.reshape({layout.n, blocks, 1}))
          .flatten(1)
          .narrow(1, 0, layout.k);  // the last block of a row may be longer than what is left
  return {at::linear(a, weight, call.has(kBias) ? call.inputs[kBias] : at::Tensor())};
}

}  // namespace packlight::exec

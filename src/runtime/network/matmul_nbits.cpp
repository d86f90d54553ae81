// com.microsoft's MatMulNBits, version 1
// (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
#include <algorithm>

#include "runtime/network/float_input.h"
#include "runtime/network/matrix_product.h"
#include "runtime/network/quantized_products.h"

namespace packlight::runtime {
namespace {

using codec::DType;

enum Input : size_t { kA, kB, kScales, kZeroPoints, kGroupIndex, kBias };

// Rows of the weight that a thread decodes at a time.
constexpr int64_t kRows = 32;

struct Layout {
  int64_t k, n, block, bits;
  int64_t blocks() const { return (k - 1) / block + 1; }  // of a row
  int64_t row_bytes() const { return blocks() * (block / 8 * bits); }
  int64_t zero_row_bytes() const { return (blocks() * bits + 7) / 8; }
};

Layout layout_of(const OperatorCall& call) {
  constexpr int64_t kMost = int64_t{1} << 40;
  const Layout it{call.node.integer("K", 0), call.node.integer("N", 0),
                  call.node.integer("block_size", 0), call.node.integer("bits", 4)};
  if (it.bits != 4 && it.bits != 8) call.refuse("bits {}; 4 and 8 are supported", it.bits);
  const bool power = it.block >= 16 && it.block <= kMost && (it.block & (it.block - 1)) == 0;
  if (it.k <= 0 || it.k > kMost || it.n <= 0 || it.n > kMost || !power) {
    call.refuse("K {}, N {}, block_size {} (a power of two of 16 or more)", it.k, it.n, it.block);
  }
  return it;
}

// Counts are compared in floating point, which no product of ours overflows.
void check_count(const OperatorCall& call, size_t input, int64_t rows, int64_t of_row) {
  const double wanted = static_cast<double>(rows) * static_cast<double>(of_row);
  if (static_cast<double>(call.input(input).elements()) != wanted)
    call.refuse("input {} has {} elements, not {}", input, call.input(input).elements(), wanted);
}

void check_type(const OperatorCall& call, size_t input, DType wanted) {
  if (call.has(input) && element_type(call.input(input)) != wanted)
    call.refuse("input {} is {}, not {}", input, codec::info(call.input(input).dtype).name,
                codec::info(wanted).name);
}

// Code `index` of a row of packed ones, the low half of a byte first.
float code_at(const uint8_t* row, int64_t index, int64_t bits) {
  if (bits == 8) return row[index];
  return static_cast<float>(row[index / 2] >> (index % 2 * 4) & 15);
}

struct Weight {
  Layout layout;
  const uint8_t* codes;
  const float* scales;
  const uint8_t* packed_zeros = nullptr;  // a new byte begins each row
  const float* zeros = nullptr;

  float zero(int64_t row, int64_t block) const {
    if (zeros != nullptr) return zeros[row * layout.blocks() + block];
    if (packed_zeros != nullptr)
      return code_at(packed_zeros + row * layout.zero_row_bytes(), block, layout.bits);
    return static_cast<float>(1 << (layout.bits - 1));  // the middle of the codes
  }
  void decode(int64_t row, float* out) const {
    const uint8_t* codes_of_row = codes + row * layout.row_bytes();
    for (int64_t block = 0; block < layout.blocks(); ++block) {
      const float scale = scales[row * layout.blocks() + block], middle = zero(row, block);
      const int64_t end = std::min(layout.k, (block + 1) * layout.block);
      for (int64_t i = block * layout.block; i < end; ++i)
        out[i] = (code_at(codes_of_row, i, layout.bits) - middle) * scale;
    }
  }
};

}  // namespace

bool matmul_nbits_shape(const ShapeCall& call) {
  const Layout it = layout_of(call);
  if (call.has(kGroupIndex)) call.refuse("g_idx (columns in another order) is not supported");
  const Tensor& a = call.input(kA);
  if (a.rank() == 0 || a.dims.back() != it.k)
    call.refuse("A {} does not end in K = {}", to_string(a.dims), it.k);
  check_type(call, kA, DType::kF32);
  check_type(call, kB, DType::kU8);
  check_type(call, kScales, DType::kF32);
  check_type(call, kBias, DType::kF32);
  check_count(call, kB, it.n, it.row_bytes());
  check_count(call, kScales, it.n, it.blocks());
  if (call.has(kZeroPoints)) {
    const bool floats = element_type(call.input(kZeroPoints)) == DType::kF32;
    check_type(call, kZeroPoints, floats ? DType::kF32 : DType::kU8);
    check_count(call, kZeroPoints, it.n, floats ? it.blocks() : it.zero_row_bytes());
  }
  if (call.has(kBias)) check_count(call, kBias, it.n, 1);
  std::vector<int64_t> dims = a.dims;
  dims.back() = it.n;
  call.set(0, DType::kF32, std::move(dims));
  return true;
}

void matmul_nbits(const RunCall& call) {
  const Layout it = layout_of(call);
  std::vector<float> a_buffer, scale_buffer, zero_buffer, bias_buffer;
  const float* a = float_input(call, kA, a_buffer);
  Weight weight{it, call.input(kB).as<uint8_t>(), float_input(call, kScales, scale_buffer)};
  if (call.has(kZeroPoints)) {
    if (element_type(call.input(kZeroPoints)) == DType::kF32)
      weight.zeros = float_input(call, kZeroPoints, zero_buffer);
    else
      weight.packed_zeros = call.input(kZeroPoints).as<uint8_t>();
  }
  const float* bias = call.has(kBias) ? float_input(call, kBias, bias_buffer) : nullptr;
  float* y = call.output(0).as<float>();
  const int64_t m = call.output(0).elements() / it.n;
  call.parallel((it.n + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> rows(std::min(kRows, it.n) * it.k);
    for (int64_t n0 = begin * kRows; n0 < std::min(it.n, end * kRows); n0 += kRows) {
      const int64_t count = std::min(kRows, it.n - n0);
      for (int64_t r = 0; r < count; ++r) weight.decode(n0 + r, rows.data() + r * it.k);
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t r = 0; r < count; ++r)
          y[i * it.n + n0 + r] = bias != nullptr ? bias[n0 + r] : 0.f;
      }
      MatrixProduct<float> product{m, count, it.k, {a, it.k, 1}, {rows.data(), 1, it.k}};
      product.c = y + n0;
      product.c_stride = it.n;
      multiply(product);
    }
  });
}

}  // namespace packlight::runtime

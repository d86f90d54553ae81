#pragma once

#include "kernels/generic/activation.h"

// product_f32() over the operations of a vector type V. A tile of kProductRows rows by
// kProductVectors vectors of columns stays in registers while k runs: elements of A are broadcast,
// rows of B are read where they lie. Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

constexpr int64_t kInnerBlock = 512;       // rows of B for which one pass over y is made
constexpr int64_t kBlockFloats = 1 << 16;  // of B in a block of columns: a quarter MB, second-level
constexpr int kOneRowVectors = 8;          // sums in flight when a product has one row

template <class V, int kRows, int kVectors, bool kPart>
inline void product_tile(const ProductF32& it, int64_t row, int64_t column, int64_t k0, int64_t k1,
                         int part) {
  using F = typename V::F;
  const auto load = [&](const float* p) {
    if constexpr (kPart) return V::load_part(p, part);
    return V::load(p);
  };
  float* y = it.y + row * it.y_stride + column;
  F sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const F bias = it.bias != nullptr ? V::set1(it.bias[row + r]) : V::zero();
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j)
      sums[r][j] = it.accumulate || k0 > 0 ? load(y + r * it.y_stride + j * V::kLanes) : bias;
  }
  const int64_t step = it.a_column_stride;
  const float* a[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) a[r] = it.a + (row + r) * it.a_row_stride;
  const float* b = it.b + column;
  for (int64_t k = k0; k < k1; ++k) {
    const float* from = b + it.b_row[k];
    F x[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) x[j] = load(from + j * V::kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F weight = V::set1(a[r][k * step]);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) sums[r][j] = V::fma(weight, x[j], sums[r][j]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      float* to = y + r * it.y_stride + j * V::kLanes;
      if constexpr (kPart)
        V::store_part(to, sums[r][j], part);
      else
        V::store(to, sums[r][j]);
    }
  }
}

// kRows rows of the columns [begin, end), and their activation when k1 is the last.
template <class V, int kRows>
void product_strip(const ProductF32& it, int64_t row, int64_t begin, int64_t end, int64_t k0,
                   int64_t k1) {
  constexpr int kVectors = kRows == 1 ? kOneRowVectors : V::kProductVectors;
  int64_t column = begin;
  for (; column + kVectors * V::kLanes <= end; column += kVectors * V::kLanes)
    product_tile<V, kRows, kVectors, false>(it, row, column, k0, k1, 0);
  for (; column + V::kLanes <= end; column += V::kLanes)
    product_tile<V, kRows, 1, false>(it, row, column, k0, k1, 0);
  if (column < end)
    product_tile<V, kRows, 1, true>(it, row, column, k0, k1, static_cast<int>(end - column));
  if (k1 < it.inner || it.activation.kind == ActivationKind::kNone) return;
  for (int r = 0; r < kRows; ++r) {
    float* y = it.y + (row + r) * it.y_stride + begin;
    activate_with<V>(it.activation, y, end - begin, y);
  }
}

template <class V>
void product_f32_with(const ProductF32& it) {
  constexpr int64_t kTile = V::kProductVectors * V::kLanes;
  const int64_t inner = it.inner < kInnerBlock ? it.inner : kInnerBlock;
  int64_t block = kBlockFloats / (inner > 0 ? inner : 1) / kTile * kTile;
  if (it.rows == 1 || block < kTile) block = it.rows == 1 ? it.columns : kTile;
  for (int64_t begin = 0; begin < it.columns; begin += block) {
    const int64_t end = begin + block < it.columns ? begin + block : it.columns;
    int64_t k0 = 0;
    do {  // once when inner is zero: y is the bias then
      const int64_t k1 = k0 + kInnerBlock < it.inner ? k0 + kInnerBlock : it.inner;
      int64_t row = 0;
      for (; row + V::kProductRows <= it.rows; row += V::kProductRows)
        product_strip<V, V::kProductRows>(it, row, begin, end, k0, k1);
      if constexpr (V::kProductRows > 4) {
        for (; row + 4 <= it.rows; row += 4) product_strip<V, 4>(it, row, begin, end, k0, k1);
      }
      for (; row + 2 <= it.rows; row += 2) product_strip<V, 2>(it, row, begin, end, k0, k1);
      for (; row < it.rows; ++row) product_strip<V, 1>(it, row, begin, end, k0, k1);
      k0 = k1;
    } while (k0 < it.inner);
  }
}

// The codes of CodeRange as floats.
template <class V>
struct Coder {
  using F = typename V::F;
  explicit Coder(const CodeRange& range)
      : scale(V::set1(range.scale)),
        zero(V::set1(static_cast<float>(range.zero))),
        low(V::set1(static_cast<float>(range.low))),
        high(V::set1(static_cast<float>(range.high))) {}
  F codes(F x) const { return V::min(high, V::max(V::add(V::round(V::div(x, scale)), zero), low)); }
  F scale, zero, low, high;
};

template <class V>
void quantize_quads_with(const float* x, int64_t x_stride, int64_t rows, int64_t n,
                         const CodeRange& range, uint32_t flip, uint8_t* out) {
  const Coder<V> coder(range);
  typename V::F factors[4];
  for (int64_t r = 0; r < 4; ++r)
    factors[r] = V::set1(range.factors != nullptr && r < rows ? range.factors[r] : 1);
  for (int64_t i = 0; i < n; i += V::kLanes) {
    typename V::F codes[4];
#pragma GCC unroll 4
    for (int64_t r = 0; r < 4; ++r) {
      codes[r] = coder.zero;
      if (r < rows)
        codes[r] = coder.codes(V::mul(load_up_to<V>(x + r * x_stride + i, n - i), factors[r]));
    }
    if (i + V::kLanes <= n) {
      V::store_quads(out + 4 * i, codes[0], codes[1], codes[2], codes[3], flip);
    } else {
      uint8_t last[4 * V::kLanes];
      V::store_quads(last, codes[0], codes[1], codes[2], codes[3], flip);
      __builtin_memcpy(out + 4 * i, last, static_cast<size_t>(4 * (n - i)));
    }
  }
}

template <class V>
void quantize_codes_with(const float* x, int64_t n, const CodeRange& range, uint32_t flip,
                         uint8_t* out) {
  const Coder<V> coder(range);
  const auto codes = [&](int64_t i, int64_t left) {
    const auto v = load_up_to<V>(x + i, left);
    if (range.factors == nullptr) return coder.codes(v);
    return coder.codes(V::mul(v, load_up_to<V>(range.factors + i, left)));
  };
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) V::store_bytes(out + i, codes(i, n - i), flip);
  if (i < n) {
    uint8_t last[V::kLanes];
    V::store_bytes(last, codes(i, n - i), flip);
    __builtin_memcpy(out + i, last, static_cast<size_t>(n - i));
  }
}

template <class V>
void round_to_codes_with(const float* x, int64_t n, const CodeRange& range, float* y) {
  const Coder<V> coder(range);
  map_vectors<V>(x, n, y, [&](typename V::F v) {
    return V::mul(V::sub(coder.codes(v), coder.zero), coder.scale);
  });
}

}  // namespace
}  // namespace packlight::kernels

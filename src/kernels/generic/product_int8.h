#pragma once

#include "kernels/generic/activation.h"

// product_int8() over the operations of a vector type V and the integer dot product D of an
// instruction set:
//   D::I             a vector of quads, D::kLanes of them, and of 32-bit sums
//   D::Lane          quads prepared to be multiplied, from a vector or from one quad for all lanes
//   D::lanes<kSigned>(I), D::one<kSigned>(word), D::step<kSignedLanes>(sum, lanes, one)
//   D::load, load_part, set1, to_float
// Internal linkage, see views.h.

namespace packlight::kernels {
namespace {

template <class V, class D, bool kWeightsInB, int kRows, int kVectors, bool kPart>
inline void int8_tile(const ProductInt8& it, int64_t row, int64_t column, int part) {
  using I = typename D::I;
  using F = typename V::F;
  const auto load = [&](const uint8_t* p) {
    if constexpr (kPart) return D::load_part(p, part);
    return D::load(p);
  };
  const auto load_floats = [&](const float* p) {
    if constexpr (kPart) return V::load_part(p, part);
    return V::load(p);
  };
  I sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) {
    if constexpr (kWeightsInB) {
      const I start = load(reinterpret_cast<const uint8_t*>(it.start + column + j * V::kLanes));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sums[r][j] = start;
    } else {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sums[r][j] = D::set1(it.start[row + r]);
    }
  }
  const uint8_t* a[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) a[r] = it.a + (row + r) * it.a_stride;
  const uint8_t* b = it.b + 4 * column;
  for (int64_t k = 0; k < it.quads; ++k) {
    const uint8_t* from = b + 4 * it.b_quad[k];
    typename D::Lane x[kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j)
      x[j] = D::template lanes<kWeightsInB>(load(from + 4 * j * V::kLanes));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      int32_t word;
      __builtin_memcpy(&word, a[r] + 4 * k, 4);
      const typename D::Lane one = D::template one<!kWeightsInB>(word);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j)
        sums[r][j] = D::template step<kWeightsInB>(sums[r][j], x[j], one);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) {
    F scale{}, bias{};
    if constexpr (kWeightsInB) {
      scale = load_floats(it.scale + column + j * V::kLanes);
      bias = it.bias != nullptr ? load_floats(it.bias + column + j * V::kLanes) : V::zero();
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      if constexpr (!kWeightsInB) {
        scale = V::set1(it.scale[row + r]);
        bias = it.bias != nullptr ? V::set1(it.bias[row + r]) : V::zero();
      }
      const F y = V::fma(D::to_float(sums[r][j]), scale, bias);
      float* to = it.y + (row + r) * it.y_stride + column + j * V::kLanes;
      if constexpr (kPart)
        V::store_part(to, y, part);
      else
        V::store(to, y);
    }
  }
}

template <class V, class D, bool kWeightsInB, int kRows>
void int8_strip(const ProductInt8& it, int64_t row, int64_t begin, int64_t end) {
  constexpr int kVectors = D::kVectors;
  int64_t column = begin;
  for (; column + kVectors * V::kLanes <= end; column += kVectors * V::kLanes)
    int8_tile<V, D, kWeightsInB, kRows, kVectors, false>(it, row, column, 0);
  for (; column + V::kLanes <= end; column += V::kLanes)
    int8_tile<V, D, kWeightsInB, kRows, 1, false>(it, row, column, 0);
  if (column < end)
    int8_tile<V, D, kWeightsInB, kRows, 1, true>(it, row, column, static_cast<int>(end - column));
  if (it.activation.kind == ActivationKind::kNone) return;
  for (int r = 0; r < kRows; ++r) {
    float* y = it.y + (row + r) * it.y_stride + begin;
    activate_with<V>(it.activation, y, end - begin, y);
  }
}

template <class V, class D, bool kWeightsInB>
void int8_blocks(const ProductInt8& it) {
  constexpr int64_t kTile = D::kVectors * V::kLanes;
  constexpr int64_t kBlockQuads = 1 << 16;  // of B in a block of columns: a quarter MB
  int64_t block = kBlockQuads / (it.quads > 0 ? it.quads : 1) / kTile * kTile;
  if (block < kTile) block = kTile;
  for (int64_t begin = 0; begin < it.columns; begin += block) {
    const int64_t end = begin + block < it.columns ? begin + block : it.columns;
    int64_t row = 0;
    for (; row + D::kRows <= it.rows; row += D::kRows)
      int8_strip<V, D, kWeightsInB, D::kRows>(it, row, begin, end);
    if constexpr (D::kRows > 4) {
      for (; row + 4 <= it.rows; row += 4) int8_strip<V, D, kWeightsInB, 4>(it, row, begin, end);
    }
    for (; row < it.rows; ++row) int8_strip<V, D, kWeightsInB, 1>(it, row, begin, end);
  }
}

template <class V, class D>
void product_int8_with(const ProductInt8& it) {
  if (it.weights_in_b)
    int8_blocks<V, D, true>(it);
  else
    int8_blocks<V, D, false>(it);
}

}  // namespace
}  // namespace packlight::kernels

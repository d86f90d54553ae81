#include "runtime/network/matrix_product.h"

#include <algorithm>
#include <type_traits>
#include <vector>

namespace packlight::runtime {
namespace {

// The tile of C that stays in registers while k runs: 4 x 16 floats fill half of NEON's registers,
// 4 x 8 half of SSE's.
constexpr int64_t kRows = 4;
#if defined(__aarch64__) || defined(__AVX__)
constexpr int64_t kColumns = 16;
#else
constexpr int64_t kColumns = 8;
#endif
// Packed panels: A [kBlockRows, kBlockInner] stays in the second-level cache, a strip of B
// [kBlockInner, kColumns] in the first.
constexpr int64_t kBlockRows = 64, kBlockColumns = 512, kBlockInner = 256;
// With fewer rows B is read once only: packing it would double the traffic.
constexpr int64_t kFewRows = 3;
// Multiplications below which a second thread costs more than it saves.
constexpr int64_t kWorkOfThread = 1 << 15;

int64_t whole(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// Strips of kRows rows, k by k, zeros where rows are missing.
void pack_a(const MatrixView<float>& a, int64_t rows, int64_t inner, float alpha, float* out) {
  for (int64_t r0 = 0; r0 < rows; r0 += kRows, out += kRows * inner) {
    const int64_t there = std::min(kRows, rows - r0);
    for (int64_t r = 0; r < kRows; ++r) {
      const float* from = a.data + (r0 + r) * a.row_stride;
      for (int64_t p = 0; p < inner; ++p)
        out[p * kRows + r] = r < there ? alpha * from[p * a.column_stride] : 0;
    }
  }
}

// Strips of kColumns columns, k by k, zeros where columns are missing.
void pack_b(const MatrixView<float>& b, int64_t inner, int64_t columns, float* out) {
  for (int64_t c0 = 0; c0 < columns; c0 += kColumns, out += kColumns * inner) {
    const int64_t there = std::min(kColumns, columns - c0);
    if (there < kColumns) std::fill(out, out + kColumns * inner, 0.f);
    const float* from = b.data + c0 * b.column_stride;
    if (b.column_stride == 1) {
      for (int64_t p = 0; p < inner; ++p)
        std::copy_n(from + p * b.row_stride, there, out + p * kColumns);
    } else {
      for (int64_t c = 0; c < there; ++c) {
        for (int64_t p = 0; p < inner; ++p)
          out[p * kColumns + c] = from[c * b.column_stride + p * b.row_stride];
      }
    }
  }
}

// A strip of A times a strip of B, added to `rows` x `columns` elements of C.
void multiply_tile(const float* __restrict a, const float* __restrict b, int64_t inner, float* c,
                   int64_t c_stride, int64_t rows, int64_t columns) {
  float sums[kRows][kColumns] = {};
  for (int64_t p = 0; p < inner; ++p, a += kRows, b += kColumns) {
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t j = 0; j < kColumns; ++j) sums[r][j] += a[r] * b[j];
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < columns; ++j) c[r * c_stride + j] += sums[r][j];
  }
}

// Panels of one thread, kept from one product to the next: their size is bounded.
struct Panels {
  std::vector<float> a = std::vector<float>(kBlockRows * kBlockInner);
  std::vector<float> b = std::vector<float>(kBlockColumns * kBlockInner);
};

void multiply_packed(const MatrixProduct<float>& it) {
  thread_local Panels panels;
  for (int64_t c0 = 0; c0 < it.n; c0 += kBlockColumns) {
    const int64_t columns = std::min(kBlockColumns, it.n - c0);
    for (int64_t p0 = 0; p0 < it.k; p0 += kBlockInner) {
      const int64_t inner = std::min(kBlockInner, it.k - p0);
      pack_b(it.b.from(p0, c0), inner, columns, panels.b.data());
      for (int64_t r0 = 0; r0 < it.m; r0 += kBlockRows) {
        const int64_t rows = std::min(kBlockRows, it.m - r0);
        pack_a(it.a.from(r0, p0), rows, inner, it.alpha, panels.a.data());
        for (int64_t c = 0; c < columns; c += kColumns) {
          for (int64_t r = 0; r < rows; r += kRows) {
            multiply_tile(panels.a.data() + r * inner, panels.b.data() + c * inner, inner,
                          it.c + (r0 + r) * it.c_stride + c0 + c, it.c_stride,
                          std::min(kRows, rows - r), std::min(kColumns, columns - c));
          }
        }
      }
    }
  }
}

// A sum in several partial ones, which a compiler may keep in one vector.
float dot(const float* a, const float* b, int64_t count) {
  constexpr int64_t kLanes = 16;
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) sums[j] += a[i + j] * b[i + j];
  }
  float sum = 0;
  for (const float part : sums) sum += part;
  for (; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

// Rows of C as sums of B's rows (any type), or, where B's columns are contiguous, as dot products.
template <class T>
void multiply_rows(const MatrixProduct<T>& it) {
  for (int64_t r = 0; r < it.m; ++r) {
    const T* a = it.a.data + r * it.a.row_stride;
    T* c = it.c + r * it.c_stride;
    if constexpr (std::is_same_v<T, float>) {
      if (it.b.row_stride == 1 && it.b.column_stride != 1 && it.a.column_stride == 1) {
        for (int64_t j = 0; j < it.n; ++j)
          c[j] += it.alpha * dot(a, it.b.data + j * it.b.column_stride, it.k);
        continue;
      }
    }
    for (int64_t p = 0; p < it.k; ++p) {
      // Unsigned, as integers wrap.
      using U = typename std::conditional_t<std::is_same_v<T, float>, std::type_identity<float>,
                                            std::make_unsigned<T>>::type;
      // Types narrower than int are promoted to it, whose products of two of them may overflow.
      using Wide = std::conditional_t<(sizeof(U) < sizeof(int)), uint32_t, U>;
      const Wide factor =
          static_cast<Wide>(it.alpha) * static_cast<Wide>(a[p * it.a.column_stride]);
      const T* b = it.b.data + p * it.b.row_stride;
      for (int64_t j = 0; j < it.n; ++j) {
        c[j] = static_cast<T>(static_cast<Wide>(c[j]) +
                              factor * static_cast<Wide>(b[j * it.b.column_stride]));
      }
    }
  }
}

// Rows [begin, end) of C, or its columns.
template <class T>
MatrixProduct<T> part_of(const MatrixProduct<T>& whole, bool by_rows, int64_t begin, int64_t end) {
  MatrixProduct<T> part = whole;
  if (by_rows) {
    part.m = end - begin;
    part.a = whole.a.from(begin, 0);
    part.c += begin * whole.c_stride;
  } else {
    part.n = end - begin;
    part.b = whole.b.from(0, begin);
    part.c += begin;
  }
  return part;
}

}  // namespace

template <class T>
void multiply(const MatrixProduct<T>& product) {
  if (product.m <= 0 || product.n <= 0 || product.k <= 0) return;
  if constexpr (std::is_same_v<T, float>) {
    if (product.m > kFewRows) return multiply_packed(product);
  }
  multiply_rows(product);
}

template <class T>
void multiply_all(const RunCall& call, std::span<const MatrixProduct<T>> products) {
  if (products.empty()) return;
  const auto count = static_cast<int64_t>(products.size());
  const MatrixProduct<T>& first = products[0];
  const double work =
      static_cast<double>(first.m) * static_cast<double>(first.n) * static_cast<double>(first.k);
  // Several: a thread takes whole ones. One: a thread takes a part of the longer side, so that the
  // smaller factor is the one packed by each.
  if (count >= call.pool.size()) {
    const auto grain = static_cast<int64_t>(kWorkOfThread / std::max(work, 1.0));
    return call.parallel(count, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) multiply(products[i]);
    });
  }
  for (const MatrixProduct<T>& product : products) {
    const bool by_rows = product.m >= product.n;
    const int64_t unit = by_rows ? kRows : kColumns,
                  units = whole(by_rows ? product.m : product.n, unit) / unit;
    const auto per_unit = work / static_cast<double>(std::max<int64_t>(units, 1));
    const auto grain = static_cast<int64_t>(kWorkOfThread / std::max(per_unit, 1.0));
    call.parallel(units, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
      const int64_t size = by_rows ? product.m : product.n;
      multiply(part_of(product, by_rows, begin * unit, std::min(size, end * unit)));
    });
  }
}

#define PACKLIGHT_INSTANTIATE(T)                   \
  template void multiply(const MatrixProduct<T>&); \
  template void multiply_all(const RunCall&, std::span<const MatrixProduct<T>>);
PACKLIGHT_INSTANTIATE(float)
PACKLIGHT_INSTANTIATE(int64_t)
PACKLIGHT_INSTANTIATE(int32_t)
PACKLIGHT_INSTANTIATE(int16_t)
PACKLIGHT_INSTANTIATE(int8_t)
PACKLIGHT_INSTANTIATE(uint8_t)
#undef PACKLIGHT_INSTANTIATE

}  // namespace packlight::runtime

#include "runtime/network/matrix_product.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/kernels.h"

namespace packlight::runtime {
namespace {

// Blocks of B that are copied because its columns are not contiguous: a quarter MB, which the
// second-level cache holds.
constexpr int64_t kBlockColumns = 256, kBlockInner = 256;
// With fewer rows B is read once only: copying it would double the traffic.
constexpr int64_t kFewRows = 3;
// Threads begin at whole vectors of every ISA and at whole strips of rows.
constexpr int64_t kRowUnit = 8, kColumnUnit = 16;
// Multiplications below which a second thread costs more than it saves.
constexpr int64_t kWorkOfThread = 1 << 16;

// The float product as the kernels take it; offsets: those of B's rows.
kernels::ProductF32 kernel_product(const MatrixProduct<float>& it, const float* b,
                                   const std::vector<int64_t>& offsets) {
  kernels::ProductF32 product;
  product.rows = it.m;
  product.columns = it.n;
  product.inner = it.k;
  product.a = it.a.data;
  product.a_row_stride = it.a.row_stride;
  product.a_column_stride = it.a.column_stride;
  product.b = b;
  product.b_row = offsets.data();
  product.accumulate = true;
  product.y = it.c;
  product.y_stride = it.c_stride;
  return product;
}

// B where it lies.
void multiply_in_place(const MatrixProduct<float>& it) {
  thread_local std::vector<int64_t> offsets;
  offsets.resize(it.k);
  for (int64_t p = 0; p < it.k; ++p) offsets[p] = p * it.b.row_stride;
  kernels::active().product_f32(kernel_product(it, it.b.data, offsets));
}

// alpha * B [inner, columns] with contiguous rows of kBlockColumns.
void copy_block(const MatrixView<float>& b, int64_t inner, int64_t columns, float alpha,
                float* out) {
  if (b.row_stride == 1) {  // along B's columns, which are contiguous
    for (int64_t c = 0; c < columns; ++c) {
      const float* from = b.data + c * b.column_stride;
      for (int64_t p = 0; p < inner; ++p) out[p * kBlockColumns + c] = alpha * from[p];
    }
    return;
  }
  for (int64_t p = 0; p < inner; ++p) {
    const float* from = b.data + p * b.row_stride;
    for (int64_t c = 0; c < columns; ++c)
      out[p * kBlockColumns + c] = alpha * from[c * b.column_stride];
  }
}

void multiply_by_blocks(const MatrixProduct<float>& it) {
  thread_local std::vector<float> block(kBlockInner * kBlockColumns);
  static const std::vector<int64_t> offsets = [] {
    std::vector<int64_t> rows(kBlockInner);
    for (int64_t p = 0; p < kBlockInner; ++p) rows[p] = p * kBlockColumns;
    return rows;
  }();
  for (int64_t c0 = 0; c0 < it.n; c0 += kBlockColumns) {
    for (int64_t p0 = 0; p0 < it.k; p0 += kBlockInner) {
      MatrixProduct<float> part = it;
      part.n = std::min(kBlockColumns, it.n - c0);
      part.k = std::min(kBlockInner, it.k - p0);
      part.a = it.a.from(0, p0);
      part.c += c0;
      copy_block(it.b.from(p0, c0), part.k, part.n, it.alpha, block.data());
      kernels::active().product_f32(kernel_product(part, block.data(), offsets));
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

// Where B's and A's columns are contiguous.
void multiply_dots(const MatrixProduct<float>& it) {
  for (int64_t r = 0; r < it.m; ++r) {
    for (int64_t j = 0; j < it.n; ++j) {
      it.c[r * it.c_stride + j] +=
          it.alpha * dot(it.a.data + r * it.a.row_stride, it.b.data + j * it.b.column_stride, it.k);
    }
  }
}

// Rows of C as sums of B's rows.
template <class T>
void multiply_integers(const MatrixProduct<T>& it) {
  // Unsigned, as integers wrap; types narrower than int are promoted to it, and products of two of
  // them may overflow.
  using Wide = std::conditional_t<(sizeof(T) < sizeof(int)), uint32_t, std::make_unsigned_t<T>>;
  for (int64_t r = 0; r < it.m; ++r) {
    const T* a = it.a.data + r * it.a.row_stride;
    T* c = it.c + r * it.c_stride;
    for (int64_t p = 0; p < it.k; ++p) {
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
    // Copying B would cost more than the few products that it takes part in.
    const bool few = product.n == 1 || product.m <= kFewRows;
    if (few && product.b.row_stride == 1 && product.a.column_stride == 1)
      multiply_dots(product);
    else if (product.b.column_stride == 1 && product.alpha == 1)
      multiply_in_place(product);
    else
      multiply_by_blocks(product);
  } else {
    multiply_integers(product);
  }
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
    const int64_t unit = by_rows ? kRowUnit : kColumnUnit,
                  units = ((by_rows ? product.m : product.n) + unit - 1) / unit;
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

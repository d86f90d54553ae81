#pragma once

#include <cstdint>
#include <span>

#include "runtime/network/operator.h"

namespace packlight::runtime {

// A matrix in memory: element (r, c) is data[r * row_stride + c * column_stride].
template <class T>
struct MatrixView {
  const T* data = nullptr;
  int64_t row_stride = 0, column_stride = 1;

  MatrixView from(int64_t row, int64_t column) const {
    return {data + row * row_stride + column * column_stride, row_stride, column_stride};
  }
};

// C [m, n] += alpha * A [m, k] B [k, n], the rows of C at c + r * c_stride. C has its addend (or
// zeros) before.
template <class T>
struct MatrixProduct {
  int64_t m = 0, n = 0, k = 0;
  MatrixView<T> a, b;
  T* c = nullptr;
  int64_t c_stride = 0;
  T alpha = 1;
};

// On the calling thread. Integers wrap. For float and the integer types of for_number_type().
template <class T>
void multiply(const MatrixProduct<T>& product);

// All of them, on all threads; they must not write the same elements.
template <class T>
void multiply_all(const RunCall& call, std::span<const MatrixProduct<T>> products);

template <class T>
void multiply_parallel(const RunCall& call, const MatrixProduct<T>& product) {
  multiply_all<T>(call, {&product, 1});
}

}  // namespace packlight::runtime

#include "runtime/network/strided_view.h"

#include <algorithm>
#include <cstring>

#include "runtime/network/operands.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

// Fewest dimensions: those of size 1 go, and neighbours that are walked as one become one.
StridedView merged(const StridedView& view) {
  StridedView out{{}, {}, view.offset};
  for (size_t d = 0; d < view.dims.size(); ++d) {
    const int64_t size = view.dims[d], stride = view.strides[d];
    if (size == 1) continue;
    if (!out.dims.empty() && out.strides.back() == size * stride) {
      out.dims.back() *= size;
      out.strides.back() = stride;
    } else {
      out.dims.push_back(size);
      out.strides.push_back(stride);
    }
  }
  if (out.dims.empty()) {
    out.dims = {1};
    out.strides = {1};
  }
  return out;
}

template <class T>
void copy_row(const T* from, int64_t step, int64_t n, T* to) {
  if (step == 1) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  } else if (step == 0) {
    std::fill_n(to, n, *from);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * step];
  }
}

template <class T>
void copy_rows(const RunCall& call, const StridedView& view, const T* from, T* to) {
  const int64_t inner = view.dims.back(), step = view.strides.back();
  const std::span<const int64_t> dims(view.dims.data(), view.dims.size() - 1),
      strides(view.strides.data(), dims.size());
  call.parallel(product(dims), grain_of(inner), [&](int64_t begin, int64_t end) {
    Odometer at(dims, strides, begin);
    for (int64_t row = begin; row < end; ++row, at.next())
      copy_row(from + at.offset(), step, inner, to + row * inner);
  });
}

// The last two dimensions change places: in blocks, so that what one cache line of the source
// brings is used before it goes.
template <class T>
void copy_transposed(const RunCall& call, const StridedView& view, const T* from, T* to) {
  constexpr int64_t kBlock = 16;
  const size_t outer = view.dims.size() - 2;
  const int64_t rows = view.dims[outer], columns = view.dims.back(), step = view.strides.back();
  const std::span<const int64_t> dims(view.dims.data(), outer), strides(view.strides.data(), outer);
  const int64_t bands = (rows + kBlock - 1) / kBlock;
  call.parallel(product(dims) * bands, grain_of(kBlock * columns), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t matrix = item / bands, row0 = item % bands * kBlock;
      const T* source = from + Odometer(dims, strides, matrix).offset();
      T* target = to + matrix * rows * columns;
      for (int64_t column0 = 0; column0 < columns; column0 += kBlock) {
        const int64_t column1 = std::min(columns, column0 + kBlock);
        for (int64_t row = row0; row < std::min(rows, row0 + kBlock); ++row) {
          for (int64_t column = column0; column < column1; ++column)
            target[row * columns + column] = source[row + column * step];
        }
      }
    }
  });
}

}  // namespace

std::vector<int64_t> row_major_strides(std::span<const int64_t> dims) {
  std::vector<int64_t> strides(dims.size(), 1);
  for (size_t d = dims.size(); d-- > 1;) strides[d - 1] = strides[d] * dims[d];
  return strides;
}

StridedView view_of(const Tensor& tensor) {
  return {tensor.dims, row_major_strides(tensor.dims), 0};
}

Odometer::Odometer(std::span<const int64_t> dims, std::span<const int64_t> strides, int64_t at)
    : dims_(dims), strides_(strides), index_(dims.size(), 0) {
  for (size_t d = dims.size(); d-- > 0;) {
    index_[d] = at % dims[d];
    at /= dims[d];
    offset_ += index_[d] * strides[d];
  }
}

void copy_view(const RunCall& call, const Tensor& from, const StridedView& view, const Tensor& to) {
  if (product(view.dims) == 0) return;
  const StridedView walk = merged(view);
  const size_t rank = walk.dims.size();
  for_element_size(call, from.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* source = from.as<T>() + walk.offset;
    const bool turned = rank >= 2 && walk.strides[rank - 2] == 1 && walk.strides[rank - 1] > 1;
    if (turned)
      copy_transposed(call, walk, source, to.as<T>());
    else
      copy_rows(call, walk, source, to.as<T>());
  });
}

}  // namespace packlight::runtime

#pragma once

#include <vector>

#include "runtime/network/operator.h"

namespace packlight::runtime {

// The elements of a dense tensor in another order: a step along dimension d moves strides[d]
// elements (0 repeats, negative turns round), from `offset` on.
struct StridedView {
  std::vector<int64_t> dims, strides;
  int64_t offset = 0;
};

std::vector<int64_t> row_major_strides(std::span<const int64_t> dims);

// The tensor as it lies there.
StridedView view_of(const Tensor& tensor);

// Writes the view's elements to `to`, dense, which has as many. `from` and `to` are of one element
// size.
void copy_view(const RunCall& call, const Tensor& from, const StridedView& view, const Tensor& to);

// Walks the first dimensions of a view in row-major order, from a given place on.
class Odometer {
 public:
  Odometer(std::span<const int64_t> dims, std::span<const int64_t> strides, int64_t at);
  int64_t offset() const { return offset_; }
  void next() {
    for (size_t d = dims_.size(); d-- > 0;) {
      offset_ += strides_[d];
      if (++index_[d] < dims_[d]) return;
      offset_ -= dims_[d] * strides_[d];
      index_[d] = 0;
    }
  }

 private:
  std::span<const int64_t> dims_, strides_;
  std::vector<int64_t> index_;
  int64_t offset_ = 0;
};

}  // namespace packlight::runtime

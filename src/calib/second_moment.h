#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace packlight::calib {

// The mean over tokens of a_i b_j, summed batch by batch: of a linear's input with itself it is that layer's Hessian (half of the
// second derivative of ||x w - y||^2 / tokens by w).
//   a: [..., p], b: [..., q] f32, the same tokens in the same order; mean(): [p, q] f64
// A batch's product is F32, the sum over batches F64. One thread at a time. Cost: 2 p q operations a token; p q F64 of memory.
class SecondMoment {
 public:
  void add(const at::Tensor& a, const at::Tensor& b);
  int64_t tokens() const { return tokens_; }
  // Errors: InvalidArgument naming `layer` when it is not finite, and for no tokens.
  at::Tensor mean(std::string_view layer) const;

 private:
  at::Tensor sum_;
  int64_t tokens_ = 0;
};

}  // namespace packlight::calib

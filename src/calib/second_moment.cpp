#include "calib/second_moment.h"

#include <ATen/ATen.h>

#include "base/fail.h"

namespace packlight::calib {

void SecondMoment::add(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor rows_a = a.reshape({-1, a.size(-1)}), rows_b = b.reshape({-1, b.size(-1)});
  const at::Tensor product = at::mm(rows_a.t(), rows_b);
  if (!sum_.defined()) sum_ = at::zeros(product.sizes(), at::kDouble);
  sum_.add_(product);
  tokens_ += rows_a.size(0);
}

at::Tensor SecondMoment::mean(std::string_view layer) const {
  if (tokens_ == 0) {
    fail(ErrorCode::kInvalidArgument, "[calib] the input of '{}': no calibration tokens came by", layer);
  }
  const at::Tensor mean = sum_.div(static_cast<double>(tokens_));
  if (!at::isfinite(mean).all().item<bool>()) {
    fail(ErrorCode::kInvalidArgument, "[calib] the input of '{}' is not finite on the calibration text", layer);
  }
  return mean;
}

}  // namespace packlight::calib

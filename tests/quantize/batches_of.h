#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <utility>
#include <vector>

#include "calib/activation_ranges.h"

namespace packlight::test {

// Calibration batches of a network whose only input is "x".
inline calib::Batches batches_of(std::vector<at::Tensor> tensors) {
  return [tensors = std::move(tensors)](const std::function<bool(const calib::Inputs&)>& use) {
    for (const at::Tensor& x : tensors)
      if (!use({{"x", x}})) return;
  };
}

}  // namespace packlight::test

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "quantize/group_fit.h"

namespace packlight::quantize {

// A network's weight on a symmetric grid: w ~ scale * code.
struct WeightCodes {
  at::Tensor codes;   // I8, of the weight's shape
  at::Tensor scales;  // F32: [size of `axis`], or of rank 0 for one of the whole tensor
  int64_t axis = 0;
  int bits = 8;
};

// Codes of `bits` bits: -2^(bits-1) .. 2^(bits-1) - 1; of 8 bits -127 .. 127, as kernels that
// multiply absolute values need.
struct WeightGrid {
  int64_t low, high;
};
WeightGrid weight_grid(int bits);

struct WeightRounding {
  int bits = 8;             // 2 to 8
  bool per_tensor = false;  // one scale, else one for each index of `axis`
  // kAbsMax: scale = max|w| / high; kSearch: of the scales 0.2 to 1 times that, the one whose
  // nearest codes have the least squared error.
  ScaleMethod method = ScaleMethod::kSearch;
};

// Chooses scales and rounds to the nearest code (half to even). w: F32, rank >= 1, finite. A
// channel of zeros has scale 1.
WeightCodes round_weight(const at::Tensor& w, int64_t axis, const WeightRounding& rounding);

// scale * code, F32, of the weight's shape.
at::Tensor decode(const WeightCodes& codes);

// The scales as what broadcasts to the weight.
at::Tensor spread_scales(const WeightCodes& codes);

}  // namespace packlight::quantize

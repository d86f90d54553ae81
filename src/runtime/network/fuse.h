#pragma once

#include <memory>

#include "io/network.h"

namespace packlight::runtime {

// The operators that fuse() makes are in this domain. No file has them: an engine refuses a network
// that comes with such nodes.
//   Conv: with an activation
//   Int8Conv, Int8MatMul: of a value that becomes codes on the way in, with weights that are codes
//     (x, quads, start, scale, bias, factors: runtime/network/int8_products.h)
//   RoundToCodes: what a QuantizeLinear and its DequantizeLinear make of a value
inline constexpr const char *kFusedDomain = "packlight";
// Their attributes, beside those of the operator they come from.
inline constexpr const char *kXScale = "x_scale",
                            *kXZero = "x_zero",                  // zero: of unsigned codes
                                *kWeightShape = "weight_shape",  // of a convolution
                                    *kInner = "inner";           // of a matrix product

struct FusedNetwork {
  std::shared_ptr<const io::Network> network;
  uint64_t prepared_bytes = 0;  // of constants that it has and the original has not
};

// The same network with nodes that one kernel computes at once made one: a layer and the activation
// of its output, a layer and the rounding of its input and weight to codes. Values keep their
// numbers; those inside a fused node are no longer made. Constants stay where they are, but for the
// weights of codes that the kernels want in another order. The network itself where there is
// nothing to fuse.
FusedNetwork fuse(std::shared_ptr<const io::Network> network);

}  // namespace packlight::runtime

#pragma once

#include "kernels/kernels.h"
#include "runtime/network/convolution.h"

// Products of activations that become codes on the way in and weights that are codes already. What
// comes out are floats.
namespace packlight::runtime {

// Weights as kernels::ProductInt8 takes them, an output after the other.
struct Int8Weights {
  const uint8_t* quads = nullptr;  // see the functions below
  const int32_t* start = nullptr;  // [outputs]
  const float* scale = nullptr;    // [outputs], the activation's scale included
  const float* bias = nullptr;     // [outputs], null: zero
};

// The bytes of quads that hold `terms` products.
inline int64_t quads_of(int64_t terms) { return (terms + 3) / 4; }

// Whether so many products of an unsigned by a signed code, less as many of the zero point, stay
// below 2^31; without any there is nothing to compute.
inline bool fits_sum(int64_t terms) {
  constexpr int64_t kMostTerms = (int64_t{1} << 31) / (2 * 255 * 128);
  return terms > 0 && terms <= kMostTerms;
}

// Whether convolve_int8() takes a window with such axes: its taps lie close together, so that a
// band of a row is little more than the row.
template <class Axes>
bool fits_codes(const Axes& axes) {
  constexpr int64_t kMostExtent = 64, kMostStride = 8;
  for (const operators::WindowAxis& axis : axes) {
    if (axis.extent() > kMostExtent || axis.stride > kMostStride) return false;
  }
  return true;
}

// Codes in [0, 255] as the kernels of this processor take them (Kernels::signed_codes), zero point
// included.
inline uint8_t stored_code(int32_t code) {
  return static_cast<uint8_t>(kernels::active().signed_codes ? code - 128 : code);
}

// y [batch, maps, stops...] = activation(bias + the convolution of what the codes of x and w stand
// for). Of one group, is_flat(), fits_codes() and fits_sum(); quads: [maps, quads of channels,
// taps].
void convolve_int8(const RunCall& call, const Convolution& it, const float* x,
                   const kernels::CodeRange& range, const Int8Weights& weights,
                   const kernels::Activation& activation, float* y);

// y [rows, columns] = activation(bias + a [rows, inner] times the weights). fits_sum(inner);
// quads: [quads of inner, columns].
void multiply_int8(const RunCall& call, int64_t rows, int64_t columns, int64_t inner,
                   const float* a, const kernels::CodeRange& range, const Int8Weights& weights,
                   const kernels::Activation& activation, float* y);

}  // namespace packlight::runtime

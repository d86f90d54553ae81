#pragma once

#include <span>

#include "kernels/kernels.h"
#include "runtime/network/operator.h"
#include "runtime/network/window.h"

namespace packlight::runtime {

// X [batch, channels, spatial...] under W [maps, channels / groups, kernel...].
struct Convolution {
  int64_t batch = 0, channels = 0, maps = 0, groups = 1;
  Window window;

  int64_t group_channels() const { return channels / groups; }
  int64_t group_maps() const { return maps / groups; }
  int64_t inner() const { return group_channels() * window.kernel_size(); }  // terms of an output
};

// Errors: InvalidArgument where ranks, channels, groups or the window do not fit.
Convolution convolution_of(const OperatorCall& call, const Tensor& x, const Tensor& weight);

// y [batch, maps, stops...] += the convolution of x and w. T is float or int32_t (sums wrap).
template <class T>
void convolve(const RunCall& call, const Convolution& it, const T* x, const T* weight, T* y);

// y [batch, maps, stops...] = activation(bias + the convolution of x and w), by the kernels'
// products. bias: [maps], null: zero.
void convolve_f32(const RunCall& call, const Convolution& it, const float* x, const float* weight,
                  const float* bias, const kernels::Activation& activation, float* y);

// Rows of the matrix whose product with the weight is the convolution: for each channel and tap,
// what the window's stops [begin, end) see of it. image: [channels, image...]; columns: [channels *
// taps, end - begin].
template <class T>
void image_to_columns(const Window& window, const T* image, int64_t channels, int64_t begin,
                      int64_t end, T* columns);
// The reverse: adds every element to where it came from.
void add_columns_to_image(const Window& window, const float* columns, int64_t channels,
                          int64_t begin, int64_t end, float* image);

}  // namespace packlight::runtime

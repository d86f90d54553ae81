#include "runtime/network/convolution.h"

#include <algorithm>
#include <vector>

#include "runtime/network/convolution_bands.h"
#include "runtime/network/elementwise.h"
#include "runtime/network/matrix_product.h"

namespace packlight::runtime {
namespace {

// Elements of one thread's columns: about what its second-level cache holds.
constexpr int64_t kColumnElements = 1 << 17;
constexpr int64_t kFewestColumns = 64;
constexpr int64_t kGrain = 1;  // a piece of a convolution is work enough for a thread

// Calls row(offset of the row's tap 0 in a plane of the image, whether the row is inside, first
// stop of the row's part, parts length, index of the part's first column) for the parts of rows of
// stops that [begin, end) covers, as the taps (d, h) see them.
template <class Row>
void for_each_row(const Window& window, int64_t begin, int64_t end, int64_t tap_d, int64_t tap_h,
                  const Row& row) {
  const int64_t width = window.stops[2];
  for (int64_t at = begin; at < end;) {
    const int64_t stop_w = at % width, stop_h = at / width % window.stops[1],
                  stop_d = at / width / window.stops[1];
    const int64_t length = std::min(width - stop_w, end - at);
    const int64_t h = window.position(1, stop_h, tap_h), d = window.position(0, stop_d, tap_d);
    const bool inside = h >= 0 && h < window.image[1] && d >= 0 && d < window.image[0];
    row((d * window.image[1] + h) * window.image[2], inside, stop_w, length, at - begin);
    at += length;
  }
}

// Calls tap(index, d, h, w) for every tap of the kernel, in row order.
template <class Tap>
void for_each_tap(const Window& window, const Tap& tap) {
  int64_t index = 0;
  for (int64_t d = 0; d < window.axes[0].kernel; ++d) {
    for (int64_t h = 0; h < window.axes[1].kernel; ++h) {
      for (int64_t w = 0; w < window.axes[2].kernel; ++w) tap(index++, d, h, w);
    }
  }
}

// out[stop - first] = image[position of stop], zero outside.
template <class T>
void copy_row(const Window& window, const T* image, int64_t tap, int64_t first, int64_t length,
              T* out) {
  const auto [low, high] = window.inside(2, tap);
  const int64_t from = std::clamp(low, first, first + length),
                to = std::clamp(high, from, first + length);
  std::fill(out, out + (from - first), T{});
  const int64_t stride = window.axes[2].stride;
  const T* source = image + window.position(2, from, tap);
  T* target = out + (from - first);
  if (stride == 1) {
    if (to > from) std::copy_n(source, to - from, target);
  } else {
    for (int64_t i = 0; i < to - from; ++i) target[i] = source[i * stride];
  }
  std::fill(out + (to - first), out + length, T{});
}

// y + factor * x
template <class T>
T multiplied_and_added(T y, T factor, T x) {
  return static_cast<T>(static_cast<Wrapping<T>>(y) +
                        static_cast<Wrapping<T>>(factor) * static_cast<Wrapping<T>>(x));
}

// y += one plane under one kernel.
template <class T>
void convolve_plane(const Window& window, const T* x, const T* weight, T* y) {
  const int64_t stride = window.axes[2].stride;
  for_each_tap(window, [&](int64_t index, int64_t d, int64_t h, int64_t w) {
    const T factor = weight[index];
    const auto [low, high] = window.inside(2, w);
    if (low >= high) return;
    const int64_t start = window.position(2, low, w), count = high - low, shift = low;
    for_each_row(window, 0, window.stop_count(), d, h,
                 [&](int64_t offset, bool inside, int64_t, int64_t, int64_t column) {
                   if (!inside) return;
                   const T* from = x + offset + start;
                   T* to = y + column + shift;
                   if (stride == 1) {
                     for (int64_t i = 0; i < count; ++i)
                       to[i] = multiplied_and_added(to[i], factor, from[i]);
                   } else {
                     for (int64_t i = 0; i < count; ++i)
                       to[i] = multiplied_and_added(to[i], factor, from[i * stride]);
                   }
                 });
  });
}

template <class T>
void convolve_depthwise(const RunCall& call, const Convolution& it, const T* x, const T* weight,
                        T* y) {
  const Window& window = it.window;
  call.parallel(it.batch * it.maps, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t map = i % it.maps, channel = i / it.maps * it.channels + map / it.group_maps();
      convolve_plane(window, x + channel * window.image_size(), weight + map * window.kernel_size(),
                     y + i * window.stop_count());
    }
  });
}

// The part of a convolution that one matrix product makes: stops [begin, end) of a group of an
// image.
struct Piece {
  int64_t image, group, begin, end;
};

template <class T>
MatrixProduct<T> product_of(const Convolution& it, const Piece& piece, const T* x, const T* weight,
                            T* y, std::vector<T>& columns) {
  const Window& window = it.window;
  const int64_t inner = it.inner(), count = piece.end - piece.begin, stops = window.stop_count();
  const T* image =
      x + (piece.image * it.channels + piece.group * it.group_channels()) * window.image_size();
  MatrixProduct<T> product{it.group_maps(), count, inner};
  product.a = {weight + piece.group * it.group_maps() * inner, inner, 1};
  if (is_pointwise(window)) {
    product.b = {image + piece.begin, stops, 1};
  } else {
    columns.resize(std::max<size_t>(columns.size(), inner * count));
    image_to_columns(window, image, it.group_channels(), piece.begin, piece.end, columns.data());
    product.b = {columns.data(), count, 1};
  }
  product.c = y + (piece.image * it.maps + piece.group * it.group_maps()) * stops + piece.begin;
  product.c_stride = stops;
  return product;
}

std::vector<Piece> pieces_of(const Convolution& it) {
  const int64_t stops = it.window.stop_count();
  const int64_t most = std::max(kFewestColumns, kColumnElements / std::max<int64_t>(1, it.inner()));
  std::vector<Piece> pieces;
  for (int64_t image = 0; image < it.batch; ++image) {
    for (int64_t group = 0; group < it.groups; ++group) {
      for (int64_t begin = 0; begin < stops; begin += most)
        pieces.push_back({image, group, begin, std::min(stops, begin + most)});
    }
  }
  return pieces;
}

}  // namespace

Convolution convolution_of(const OperatorCall& call, const Tensor& x, const Tensor& weight) {
  if (x.rank() < 3 || weight.rank() != x.rank())
    call.refuse("input {} and weight {} must have one rank, >= 3", to_string(x.dims),
                to_string(weight.dims));
  Convolution it;
  it.groups = call.node.integer("group", 1);
  it.batch = x.dims[0];
  it.channels = x.dims[1];
  it.maps = weight.dims[0];
  if (it.groups < 1 || it.maps % it.groups != 0)
    call.refuse("group {} does not divide the weight's {} maps", it.groups, it.maps);
  if (it.groups > std::max<int64_t>(1, it.maps))  // zero maps are divided by anything
    call.refuse("{} groups of {} maps", it.groups, it.maps);
  if (it.channels % it.groups != 0 || it.channels / it.groups != weight.dims[1])
    call.refuse("input {} and weight {} in {} groups: channels differ", to_string(x.dims),
                to_string(weight.dims), it.groups);
  it.window = window_over(call, x, std::span(weight.dims).subspan(2));
  return it;
}

template <class T>
void image_to_columns(const Window& window, const T* image, int64_t channels, int64_t begin,
                      int64_t end, T* columns) {
  const int64_t count = end - begin, taps = window.kernel_size(), plane = window.image_size();
  for (int64_t channel = 0; channel < channels; ++channel) {
    for_each_tap(window, [&](int64_t index, int64_t d, int64_t h, int64_t w) {
      T* out = columns + (channel * taps + index) * count;
      for_each_row(window, begin, end, d, h,
                   [&](int64_t offset, bool inside, int64_t stop, int64_t length, int64_t column) {
                     if (inside)
                       copy_row(window, image + channel * plane + offset, w, stop, length,
                                out + column);
                     else
                       std::fill_n(out + column, length, T{});
                   });
    });
  }
}

void add_columns_to_image(const Window& window, const float* columns, int64_t channels,
                          int64_t begin, int64_t end, float* image) {
  const int64_t count = end - begin, taps = window.kernel_size(), plane = window.image_size(),
                stride = window.axes[2].stride;
  for (int64_t channel = 0; channel < channels; ++channel) {
    for_each_tap(window, [&](int64_t index, int64_t d, int64_t h, int64_t w) {
      const float* in = columns + (channel * taps + index) * count;
      const auto range = window.inside(2, w);
      for_each_row(window, begin, end, d, h,
                   [&](int64_t offset, bool inside, int64_t stop, int64_t length, int64_t column) {
                     const int64_t from = std::max(range.low, stop),
                                   to = std::min(range.high, stop + length);
                     if (!inside || from >= to) return;
                     float* target = image + channel * plane + offset + window.position(2, from, w);
                     const float* source = in + column + (from - stop);
                     for (int64_t i = 0; i < to - from; ++i) target[i * stride] += source[i];
                   });
    });
  }
}

template <class T>
void convolve(const RunCall& call, const Convolution& it, const T* x, const T* weight, T* y) {
  if (call.output(0).elements() == 0) return;
  if (it.group_channels() == 1 && it.groups > 1) return convolve_depthwise(call, it, x, weight, y);
  const std::vector<Piece> pieces = pieces_of(it);
  const auto count = static_cast<int64_t>(pieces.size());
  if (count >= call.pool.size()) {
    return call.parallel(count, kGrain, [&](int64_t begin, int64_t end) {
      std::vector<T> columns;
      for (int64_t i = begin; i < end; ++i)
        multiply(product_of(it, pieces[i], x, weight, y, columns));
    });
  }
  std::vector<T> columns;
  for (const Piece& piece : pieces)
    multiply_parallel(call, product_of(it, piece, x, weight, y, columns));
}

#define PACKLIGHT_INSTANTIATE(T)                                                      \
  template void convolve(const RunCall&, const Convolution&, const T*, const T*, T*); \
  template void image_to_columns(const Window&, const T*, int64_t, int64_t, int64_t, T*);
PACKLIGHT_INSTANTIATE(float)
PACKLIGHT_INSTANTIATE(int32_t)
#undef PACKLIGHT_INSTANTIATE

}  // namespace packlight::runtime

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/network/operator.h"
#include "runtime/network/typed.h"
#include "runtime/network/window.h"

namespace packlight::runtime {
namespace {

Window pooling_window(const OperatorCall& call) {
  const std::vector<int64_t> kernel = call.node.integers("kernel_shape");
  if (kernel.empty()) call.refuse("kernel_shape is missing");
  return window_over(call, call.input(0), kernel);
}

void check_f32(const OperatorCall& call) {
  if (call.input(0).dtype != codec::DType::kF32)
    call.refuse("elements of {} are not supported", codec::info(call.input(0).dtype).name);
}

int64_t power_of(const OperatorCall& call) {
  const int64_t p = call.node.integer("p", 2);
  if (p < 1) call.refuse("p is {}, not positive", p);
  return p;
}

std::vector<int64_t> pooled_dims(const OperatorCall& call) {
  const Tensor& x = call.input(0);
  const Window window = pooling_window(call);
  return window.dims(x.dims[0], x.dims[1], window.stops);
}

bool max_pool_shape(const ShapeCall& call) {
  call.set(0, call.input(0).dtype, pooled_dims(call));
  call.set(1, codec::DType::kI64, pooled_dims(call));
  return true;
}

bool pool_shape(const ShapeCall& call) {
  check_f32(call);
  power_of(call);
  call.set(0, codec::DType::kF32, pooled_dims(call));
  return true;
}

// fn(plane) for every [batch, channel], in parallel.
template <class Fn>
void for_each_plane(const RunCall& call, const Fn& fn) {
  const std::vector<int64_t>& dims = call.input(0).dims;
  call.parallel(dims[0] * dims[1], 1, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) fn(plane);
  });
}

// What a tap of the window does to the outputs of one row: fn(outputs, inputs, count, stride).
// Taps are visited in row order.
template <class T, class Fn>
void for_each_tap_row(const Window& window, const T* x, T* y, int64_t d, int64_t h, const Fn& fn) {
  T* row = y + (d * window.stops[1] + h) * window.stops[2];
  for (int64_t tap_d = 0; tap_d < window.axes[0].kernel; ++tap_d) {
    const int64_t from_d = window.position(0, d, tap_d);
    if (from_d < 0 || from_d >= window.image[0]) continue;
    for (int64_t tap_h = 0; tap_h < window.axes[1].kernel; ++tap_h) {
      const int64_t from_h = window.position(1, h, tap_h);
      if (from_h < 0 || from_h >= window.image[1]) continue;
      const T* source = x + (from_d * window.image[1] + from_h) * window.image[2];
      for (int64_t tap_w = 0; tap_w < window.axes[2].kernel; ++tap_w) {
        const auto [low, high] = window.inside(2, tap_w);
        if (low >= high) continue;
        fn(row + low, source + window.position(2, low, tap_w), high - low, window.axes[2].stride);
      }
    }
  }
}

// y = step(y, x) over every element that a window sees, from `start`.
template <class T, class Step>
void fold(const Window& window, const T* x, T* y, T start, const Step& step) {
  std::fill_n(y, window.stop_count(), start);
  for (int64_t d = 0; d < window.stops[0]; ++d) {
    for (int64_t h = 0; h < window.stops[1]; ++h) {
      for_each_tap_row(window, x, y, d, h, [&](T* out, const T* in, int64_t count, int64_t stride) {
        if (stride == 1) {
          for (int64_t i = 0; i < count; ++i) out[i] = step(out[i], in[i]);
        } else {
          for (int64_t i = 0; i < count; ++i) out[i] = step(out[i], in[i * stride]);
        }
      });
    }
  }
}

template <class T>
constexpr T lowest() {
  if constexpr (std::is_same_v<T, float>)
    return -std::numeric_limits<float>::infinity();
  else
    return std::numeric_limits<T>::lowest();
}

// NaN is larger than everything.
template <class T>
bool exceeds(T value, T best) {
  if constexpr (std::is_same_v<T, float>)
    return value > best || value != value;
  else
    return value > best;
}

// The number of an element in its plane, rows first or columns first.
int64_t element_number(const Window& window, int64_t offset, bool columns_first) {
  if (!columns_first) return offset;
  const Spatial& size = window.image;
  const int64_t w = offset % size[2], h = offset / size[2] % size[1],
                d = offset / size[2] / size[1];
  return (w * size[1] + h) * size[0] + d;
}

// The largest element of every window and where it is among all of x; of equal ones the first in
// row order wins.
template <class T>
void max_with_indices(const Window& window, const T* x, T* y, int64_t* where, int64_t first_number,
                      bool columns_first) {
  std::fill_n(y, window.stop_count(), lowest<T>());
  std::fill_n(where, window.stop_count(), int64_t{-1});
  for (int64_t d = 0; d < window.stops[0]; ++d) {
    for (int64_t h = 0; h < window.stops[1]; ++h) {
      for_each_tap_row(window, x, y, d, h, [&](T* out, const T* in, int64_t count, int64_t stride) {
        int64_t* index = where + (out - y);
        for (int64_t i = 0; i < count; ++i) {
          const T value = in[i * stride];
          const bool better = index[i] < 0 || (out[i] == out[i] && exceeds(value, out[i]));
          if (!better) continue;
          out[i] = value;
          index[i] = (in - x) + i * stride;
        }
      });
    }
  }
  for (int64_t i = 0; i < window.stop_count(); ++i)
    where[i] = first_number + (where[i] < 0 ? -1 : element_number(window, where[i], columns_first));
}

template <class T>
void max_pool_of(const RunCall& call) {
  const Window window = pooling_window(call);
  const T* x = call.input(0).as<T>();
  T* y = call.output(0).as<T>();
  const int64_t image = window.image_size(), stops = window.stop_count();
  const bool columns_first = call.node.integer("storage_order", 0) != 0;
  for_each_plane(call, [&](int64_t plane) {
    if (call.wants(1)) {
      max_with_indices(window, x + plane * image, y + plane * stops,
                       call.output(1).as<int64_t>() + plane * stops, plane * image, columns_first);
    } else {
      fold(window, x + plane * image, y + plane * stops, lowest<T>(),
           [](T best, T value) { return exceeds(value, best) ? value : best; });
    }
  });
}

void max_pool(const RunCall& call) {
  for_number_type(call, call.input(0).dtype, [&](auto zero) { max_pool_of<decltype(zero)>(call); });
}

// How many elements the windows along one axis average over. Padding counts if asked for, what lies
// behind it (the rest of a last window that is not whole) never.
std::vector<int64_t> axis_counts(const Window& window, size_t i, bool with_padding) {
  const WindowAxis& axis = window.axes[i];
  const bool declared = axis.auto_pad == AutoPad::kNotSet;
  const int64_t after = declared ? axis.end : window.end[i];
  const int64_t first = with_padding ? -window.begin[i] : 0,
                last = window.image[i] + (with_padding ? after : 0);
  std::vector<int64_t> counts(window.stops[i], 0);
  for (int64_t stop = 0; stop < window.stops[i]; ++stop) {
    const int64_t start = window.position(i, stop, 0);  // taps t with first <= start + t * dilation
    const int64_t low = std::max<int64_t>(0, (first - start + axis.dilation - 1) / axis.dilation),
                  high = last <= start ? 0 : (last - start + axis.dilation - 1) / axis.dilation;
    counts[stop] = std::max<int64_t>(0, std::min(high, axis.kernel) - low);
  }
  return counts;
}

void average_pool(const RunCall& call) {
  const Window window = pooling_window(call);
  const bool with_padding = call.node.integer("count_include_pad", 0) != 0;
  std::vector<int64_t> counts[kSpatialAxes];
  for (size_t i = 0; i < kSpatialAxes; ++i) counts[i] = axis_counts(window, i, with_padding);
  const float* x = call.input(0).as<float>();
  float* y = call.output(0).as<float>();
  for_each_plane(call, [&](int64_t plane) {
    float* out = y + plane * window.stop_count();
    fold(window, x + plane * window.image_size(), out, 0.f,
         [](float sum, float value) { return sum + value; });
    for (const int64_t d : counts[0]) {
      for (const int64_t h : counts[1]) {
        for (const int64_t w : counts[2])  // a window of padding only averages to zero
          *out++ /=
              std::max(1.f, static_cast<float>(d) * static_cast<float>(h) * static_cast<float>(w));
      }
    }
  });
}

// y[i] = (sum |x|^p)^(1/p) from the sums.
void take_root(float* y, int64_t count, int64_t p) {
  if (p == 1) return;
  for (int64_t i = 0; i < count; ++i)
    y[i] = p == 2 ? std::sqrt(y[i]) : std::pow(y[i], 1.f / static_cast<float>(p));
}

float power(float x, int64_t p) {
  if (p == 1) return std::abs(x);
  return p == 2 ? x * x : std::pow(std::abs(x), static_cast<float>(p));
}

void lp_pool(const RunCall& call) {
  const Window window = pooling_window(call);
  const int64_t p = power_of(call);
  const float* x = call.input(0).as<float>();
  float* y = call.output(0).as<float>();
  for_each_plane(call, [&](int64_t plane) {
    float* out = y + plane * window.stop_count();
    fold(window, x + plane * window.image_size(), out, 0.f,
         [p](float sum, float value) { return sum + power(value, p); });
    take_root(out, window.stop_count(), p);
  });
}

bool global_shape(const ShapeCall& call) {
  const std::vector<int64_t>& dims = call.input(0).dims;
  check_f32(call);
  power_of(call);
  if (dims.size() < 3) call.refuse("input {} has no spatial axis", to_string(dims));
  std::vector<int64_t> out(dims.size(), 1);
  out[0] = dims[0];
  out[1] = dims[1];
  call.set(0, codec::DType::kF32, std::move(out));
  return true;
}

// y[plane] = fn(elements of the plane, their number)
template <class Fn>
void global_pool(const RunCall& call, const Fn& fn) {
  const std::vector<int64_t>& dims = call.input(0).dims;
  int64_t size = 1;
  for (size_t i = 2; i < dims.size(); ++i) size *= dims[i];
  for_each_plane(call, [&](int64_t plane) {
    call.output(0).as<float>()[plane] = fn(call.input(0).as<float>() + plane * size, size);
  });
}

void global_average_pool(const RunCall& call) {
  global_pool(call, [](const float* x, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += x[i];
    return static_cast<float>(sum / static_cast<double>(count));
  });
}

void global_max_pool(const RunCall& call) {
  global_pool(call, [](const float* x, int64_t count) {
    float best = lowest<float>();
    for (int64_t i = 0; i < count; ++i) best = exceeds(x[i], best) ? x[i] : best;
    return best;
  });
}

void global_lp_pool(const RunCall& call) {
  const int64_t p = power_of(call);
  global_pool(call, [p](const float* x, int64_t count) {
    float sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += power(x[i], p);
    take_root(&sum, 1, p);
    return sum;
  });
}

constexpr Operator kOperators[] = {
    {"MaxPool", max_pool_shape, max_pool},
    {"AveragePool", pool_shape, average_pool},
    {"LpPool", pool_shape, lp_pool},
    {"GlobalAveragePool", global_shape, global_average_pool},
    {"GlobalMaxPool", global_shape, global_max_pool},
    {"GlobalLpPool", global_shape, global_lp_pool},
};

}  // namespace

std::span<const Operator> pooling_operators() { return kOperators; }

}  // namespace packlight::runtime

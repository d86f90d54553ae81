#include "runtime/network/resize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "operators/resize.h"
#include "runtime/network/indexed_copy.h"
#include "runtime/network/operands.h"
#include "runtime/network/typed.h"

namespace packlight::runtime {
namespace {

using codec::DType;
using operators::ResizeAxis;
using operators::ResizeSettings;

std::vector<bool> outside_of(const std::vector<double>& x, const ResizeAxis& axis) {
  std::vector<bool> outside;
  for (const double at : x) outside.push_back(at < 0 || at > static_cast<double>(axis.in - 1));
  return outside;
}

template <class T>
T to_element(double value) {
  if constexpr (std::is_integral_v<T>) {
    const auto low = static_cast<double>(std::numeric_limits<T>::min()),
               high = static_cast<double>(std::numeric_limits<T>::max());
    if (!(value > low)) return std::numeric_limits<T>::min();
    return value >= high ? std::numeric_limits<T>::max() : static_cast<T>(std::nearbyint(value));
  } else {
    return static_cast<T>(value);
  }
}

// Each element as it is: what every axis takes is known before, so all go at once.
void resize_nearest(const RunCall& call, const std::vector<ResizeAxis>& axes,
                    const ResizeSettings& settings) {
  const Tensor &x = call.input(0), &out = call.output(0);
  std::vector<std::vector<int64_t>> sources;
  for (const int64_t size : x.dims) {
    sources.emplace_back(size);
    std::iota(sources.back().begin(), sources.back().end(), 0);
  }
  for (const ResizeAxis& axis : axes) {
    const std::vector<double> at = operators::resize_coordinates(axis, settings);
    sources[axis.axis] = operators::nearest_elements(at, axis, settings);
    if (!settings.crops()) continue;
    const std::vector<bool> outside = outside_of(at, axis);
    for (size_t i = 0; i < outside.size(); ++i) {
      if (outside[i]) sources[axis.axis][i] = kOutside;
    }
  }
  if (!settings.crops()) return copy_by_index(call, x, sources, nullptr, out);
  for_number_type(call, out.dtype, [&](auto zero) {
    const auto fill = to_element<decltype(zero)>(settings.extrapolation);
    copy_by_index(call, x, sources, reinterpret_cast<const std::byte*>(&fill), out);
  });
}

// What an axis does to float elements.
struct Filter {
  operators::ResizeTaps taps;  // but for
  std::vector<float> weights;
  std::vector<bool> outside;  // gets the extrapolation value; empty: nowhere
  float extrapolation = 0;
  int64_t out = 0;

  bool is_outside(int64_t y) const { return !outside.empty() && outside[y]; }

  // Element y along the axis, for each of `n` neighbours: `from` is the axis's first element.
  void blend(const float* from, int64_t y, int64_t n, float* to) const {
    if (is_outside(y)) {
      std::fill_n(to, n, extrapolation);
      return;
    }
    const int64_t* index = &taps.indices[y * taps.count];
    const float* weight = &weights[y * taps.count];
    const float *a = from + index[0] * n, *b = from + index[1] * n;
    const float u = weight[0], v = weight[1];
    for (int64_t i = 0; i < n; ++i) to[i] = a[i] * u + b[i] * v;
    for (int64_t k = 2; k < taps.count; ++k) {
      const float* c = from + index[k] * n;
      const float w = weight[k];
      for (int64_t i = 0; i < n; ++i) to[i] += c[i] * w;
    }
  }

  // All elements of a row.
  void resize_row(const float* from, float* to) const {
    const int64_t* index = taps.indices.data();
    const float* weight = weights.data();
    if (taps.count == 2) {
      for (int64_t y = 0; y < out; ++y, index += 2, weight += 2)
        to[y] = from[index[0]] * weight[0] + from[index[1]] * weight[1];
    } else {
      for (int64_t y = 0; y < out; ++y, index += taps.count, weight += taps.count) {
        float sum = 0;
        for (int64_t k = 0; k < taps.count; ++k) sum += from[index[k]] * weight[k];
        to[y] = sum;
      }
    }
    for (int64_t y = 0; !outside.empty() && y < out; ++y) {
      if (outside[y]) to[y] = extrapolation;
    }
  }
};

Filter filter_of(const ResizeAxis& axis, const ResizeSettings& settings) {
  const std::vector<double> x = operators::resize_coordinates(axis, settings);
  operators::ResizeTaps taps = operators::resize_taps(x, axis, settings);
  std::vector<float> weights(taps.weights.begin(), taps.weights.end());
  return {std::move(taps), std::move(weights),
          settings.crops() ? outside_of(x, axis) : std::vector<bool>{},
          static_cast<float>(settings.extrapolation), axis.out};
}

// One axis of [outer, in, inner].
void resize_axis(const RunCall& call, const ResizeAxis& axis, const Filter& filter, int64_t outer,
                 int64_t inner, const float* from, float* to) {
  if (inner == 1) {
    call.parallel(outer, grain_of(axis.out * filter.taps.count), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        filter.resize_row(from + row * axis.in, to + row * axis.out);
    });
    return;
  }
  call.parallel(outer * axis.out, grain_of(inner * filter.taps.count),
                [&](int64_t begin, int64_t end) {
                  for (int64_t row = begin; row < end; ++row)
                    filter.blend(from + row / axis.out * axis.in * inner, row % axis.out, inner,
                                 to + row * inner);
                });
}

// The last two axes, an image: each output row is blended from rows of the input, then stretched,
// without an image in between.
void resize_images(const RunCall& call, const ResizeAxis& height, const Filter& down,
                   const ResizeAxis& width, const Filter& across, int64_t images, const float* from,
                   float* to) {
  const int64_t cost =
      height.out > 0 ? width.in * down.taps.count + width.out * across.taps.count : 1;
  call.parallel(images * height.out, grain_of(cost), [&](int64_t begin, int64_t end) {
    std::vector<float> blended(width.in);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / height.out;
      down.blend(from + image * height.in * width.in, row % height.out, width.in, blended.data());
      across.resize_row(blended.data(), to + row * width.out);
    }
  });
}

// Axis after axis through buffers, from `from` to `to`.
void interpolate(const RunCall& call, const std::vector<ResizeAxis>& axes,
                 const ResizeSettings& settings, const float* from, float* to) {
  std::vector<int64_t> dims = call.input(0).dims;
  const auto rank = static_cast<int64_t>(dims.size());
  std::vector<float> now, next;
  if (axes.empty()) std::copy_n(from, product(dims), to);
  for (size_t i = 0; i < axes.size(); ++i) {
    const ResizeAxis& axis = axes[i];
    const Filter filter = filter_of(axis, settings);
    const bool image = i + 2 == axes.size() && axis.axis == rank - 2;  // the next is the last
    const bool last = image || i + 1 == axes.size();
    const int64_t outer = product(std::span(dims).first(axis.axis)),
                  inner = product(std::span(dims).subspan(axis.axis + 1));
    dims[axis.axis] = axis.out;
    if (!last) next.resize(product(dims));
    float* target = last ? to : next.data();
    if (image) {
      const ResizeAxis& width = axes[i + 1];
      resize_images(call, axis, filter, width, filter_of(width, settings), outer, from, target);
      return;
    }
    resize_axis(call, axis, filter, outer, inner, from, target);
    now.swap(next);
    from = now.data();
  }
}

ResizeSettings settings_of(const OperatorCall& call) {
  ResizeSettings settings = operators::resize_settings(call.node);
  operators::check_settings(settings);
  return settings;
}

// X, roi, scales, sizes -> the axes that change; nothing while one of these inputs is not computed
// yet. An empty one counts as absent.
std::optional<std::vector<ResizeAxis>> axes_of(const OperatorCall& call,
                                               const ResizeSettings& settings) {
  const auto given = [&](size_t i) { return call.has(i) && call.input(i).elements() > 0; };
  for (size_t i = 1; i < 4; ++i) {
    if (given(i) && !call.input(i).has_data()) return std::nullopt;
  }
  const auto roi = settings.crops() && given(1) ? *numbers_in(call, 1) : std::vector<double>{},
             scales = given(2) ? *numbers_in(call, 2) : std::vector<double>{};
  const auto sizes = given(3) ? integers_in(call, 3) : std::vector<int64_t>{};
  return operators::resized_axes(settings, call.input(0).dims, roi, scales, sizes);
}

}  // namespace

bool resize_shape(const ShapeCall& call) {
  const auto axes = axes_of(call, settings_of(call));
  if (!axes) return false;
  std::vector<int64_t> dims = call.input(0).dims;
  for (const ResizeAxis& axis : *axes) dims[axis.axis] = axis.out;
  call.set(0, call.input(0).dtype, std::move(dims));
  return true;
}

void resize(const RunCall& call) {
  const Tensor &x = dense(call, 0), &out = call.output(0);
  if (out.elements() == 0) return;
  const ResizeSettings settings = settings_of(call);
  const std::vector<ResizeAxis> axes = *axes_of(call, settings);
  if (settings.mode == "nearest") return resize_nearest(call, axes, settings);
  if (x.dtype == DType::kF32)
    return interpolate(call, axes, settings, x.as<float>(), out.as<float>());
  for_number_type(call, x.dtype, [&](auto zero) {  // as floats, to the nearest the type has
    using T = decltype(zero);
    const std::vector<float> from(x.as<T>(), x.as<T>() + x.elements());
    std::vector<float> to(out.elements());
    interpolate(call, axes, settings, from.data(), to.data());
    std::transform(to.begin(), to.end(), out.as<T>(), to_element<T>);
  });
}

}  // namespace packlight::runtime

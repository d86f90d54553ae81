#pragma once

#include <algorithm>
#include <vector>

#include "runtime/network/convolution.h"
#include "runtime/network/padded_band.h"

// How a convolution by a kernel's product is cut into pieces for threads and caches, for elements
// of any type.
namespace packlight::runtime {

inline constexpr int64_t kMapUnit = 8;      // rows that a product takes at a time
inline constexpr int64_t kColumnUnit = 48;  // columns likewise, on the widest ISA
// Multiplications below which a second thread costs more than it saves.
inline constexpr double kWorkOfThread = 1 << 17;
// Elements of a band, and of what a product of it leaves: a quarter MB each.
inline constexpr int64_t kBandElements = 1 << 16;

inline int64_t parts_of(int64_t count, int64_t unit, int64_t parts) {
  const int64_t units = (count + unit - 1) / unit, per_part = (units + parts - 1) / parts;
  return std::max<int64_t>(1, per_part) * unit;
}

// Whether the whole window is one tap that stops at every element: its image needs no band.
bool is_pointwise(const Window& window);

// Whether the window moves over two axes at most: the first of the three does nothing.
bool is_flat(const Window& window);

// Whether convolve_bands() takes it: a flat window, and padding that is not beyond all proportion.
bool fits_bands(const Convolution& it, int64_t channels);

// A part of a convolution: of one group of an image, what maps [map, map_end) make of the stop rows
// [first, first + rows) (or of the stops, where it is pointwise).
struct BandPart {
  int64_t image, group, first, rows, map, map_end;
};

// Pieces of `length` rows (stops) at most, at least one for each thread where the work is worth it.
std::vector<BandPart> band_parts(const Convolution& it, int64_t count, int64_t length, int64_t unit,
                                 int threads);

// part(pieces[i], scratch) for every piece, on all threads.
template <class Part>
void for_each_part(const RunCall& call, const Convolution& it, const std::vector<BandPart>& parts,
                   const Part& part) {
  const auto count = static_cast<int64_t>(parts.size());
  const double work = static_cast<double>(it.batch) * static_cast<double>(it.maps) *
                      static_cast<double>(it.inner()) *
                      static_cast<double>(it.window.stop_count()) / static_cast<double>(count);
  const auto grain = static_cast<int64_t>(kWorkOfThread / std::max(work, 1.0));
  call.parallel(count, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) part(parts[i]);
  });
}

// The convolution of images whose groups have `channels` channels of elements T (a float, or a quad
// of codes).
//   fill(part, band, channel, out): the channel of the part's group, as band.fill() leaves it
//   multiply(part, map, map_end, b, b_rows, columns, y, y_stride): the product of those maps'
//     weights, channel by channel and tap by tap, with the rows of b
// y: [batch, maps, stops...] f32.
template <class T, class Fill, class Multiply>
void convolve_bands(const RunCall& call, const Convolution& it, int64_t channels, float* y,
                    const Fill& fill, const Multiply& multiply) {
  const Window& window = it.window;
  const int64_t halo = PaddedBand(window, 1).channel_size(),
                rows_that_fit = kBandElements / std::max<int64_t>(1, channels * halo);
  // A band of many rows has its halo once: twice as many rows need less than twice the space.
  const int64_t length = std::clamp<int64_t>(2 * rows_that_fit, 1, window.stops[1]);
  const std::vector<BandPart> parts = band_parts(it, window.stops[1], length, 1, call.pool.size());
  int64_t most_rows = 1;
  for (const BandPart& part : parts) most_rows = std::max(most_rows, part.rows);
  const PaddedBand band(window, most_rows);
  std::vector<int64_t> b_rows;
  for (int64_t c = 0; c < channels; ++c) {
    for (const int64_t tap : band.taps()) b_rows.push_back(c * band.channel_size() + tap);
  }
  const int64_t width = window.stops[2], stops = window.stop_count();
  for_each_part(call, it, parts, [&](const BandPart& part) {
    thread_local std::vector<T> b;
    thread_local std::vector<float> flat;
    b.resize(std::max<size_t>(b.size(), channels * band.channel_size()));
    for (int64_t c = 0; c < channels; ++c) fill(part, band, c, b.data() + c * band.channel_size());
    const int64_t columns = band.columns(part.rows);
    const auto output = [&](int64_t map) {
      return y + (part.image * it.maps + part.group * it.group_maps() + map) * stops +
             part.first * width;
    };
    if (band.pitch() == width)
      return multiply(part, part.map, part.map_end, b.data(), b_rows, columns, output(part.map),
                      stops);
    const int64_t step = std::max<int64_t>(kMapUnit, kBandElements / columns / kMapUnit * kMapUnit);
    for (int64_t map = part.map; map < part.map_end; map += step) {
      const int64_t end = std::min(part.map_end, map + step);
      flat.resize(std::max<size_t>(flat.size(), (end - map) * columns));
      multiply(part, map, end, b.data(), b_rows, columns, flat.data(), columns);
      for (int64_t m = map; m < end; ++m) {
        for (int64_t r = 0; r < part.rows; ++r)
          std::copy_n(flat.data() + (m - map) * columns + r * band.pitch(), width,
                      output(m) + r * width);
      }
    }
  });
}

}  // namespace packlight::runtime

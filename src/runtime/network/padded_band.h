#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "runtime/network/window.h"

namespace packlight::runtime {

// How some rows of a convolution's stops see a channel of the image, so that each tap of the window
// finds what it sees of all of them at one offset, stop after stop: padded, and cut into a plane
// for each phase of the strides (stride 2: even and odd rows and columns), whose neighbours are
// what neighbouring stops see.
//
// Stop (row, column) is element row * pitch() + column; the `pitch() - stops` elements between rows
// are computed for nothing. Over axes 1 and 2 of the window: axis 0 must be trivial.
class PaddedBand {
 public:
  // For up to `rows` rows of stops.
  PaddedBand(const Window& window, int64_t rows);

  int64_t pitch() const { return pitch_; }
  // Elements from the first stop of `rows` rows to the last.
  int64_t columns(int64_t rows) const { return (rows - 1) * pitch_ + window_.stops[2]; }
  int64_t channel_size() const { return static_cast<int64_t>(planes_.size()) * plane_size_; }
  // Where each tap, in row order, finds the first stop, within a channel.
  const std::vector<int64_t>& taps() const { return taps_; }

  // Bytes are no matter: T is what a pixel is. Writes a channel for the stop rows [first, first +
  // rows); row(h) gives the pixels of row h of its image, `padding` is what lies outside.
  template <class T, class Row>
  void fill(int64_t first, int64_t rows, T padding, T* out, const Row& row) const {
    const int64_t lines = rows + height_ - rows_;  // as many as the taps reach
    for (size_t p = 0; p < planes_.size();) {
      size_t same = p + 1;  // the planes [p, same) hold the same rows
      while (same < planes_.size() && planes_[same].row == planes_[p].row) ++same;
      for (int64_t q = 0; q < lines; ++q) {
        const int64_t h = (first + q) * window_.axes[1].stride + planes_[p].row - window_.begin[1];
        const T* from = h >= 0 && h < window_.image[1] ? row(h) : nullptr;
        for (size_t i = p; i < same; ++i)
          fill_line(planes_[i], from, padding,
                    out + static_cast<int64_t>(i) * plane_size_ + q * pitch_);
      }
      p = same;
    }
  }

 private:
  struct Plane {
    int64_t row, column;   // phases
    int64_t begin, end;    // elements of a line that are inside the image
    int64_t first_column;  // the image's column at `begin`
  };

  template <class T>
  void fill_line(const Plane& plane, const T* from, T padding, T* out) const {
    if (from == nullptr) {
      std::fill_n(out, pitch_, padding);
      return;
    }
    std::fill_n(out, plane.begin, padding);
    const int64_t stride = window_.axes[2].stride, count = plane.end - plane.begin;
    const T* source = from + plane.first_column;
    T* target = out + plane.begin;
    if (stride == 1) {
      std::copy_n(source, count, target);
    } else {
      for (int64_t i = 0; i < count; ++i) target[i] = source[i * stride];
    }
    std::fill_n(out + plane.end, pitch_ - plane.end, padding);
  }

  Window window_;
  int64_t rows_ = 0, height_ = 0, pitch_ = 0, plane_size_ = 0;
  std::vector<Plane> planes_;
  std::vector<int64_t> taps_;
};

}  // namespace packlight::runtime

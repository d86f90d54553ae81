#include "runtime/network/padded_band.h"

namespace packlight::runtime {
namespace {

// Where a tap's offset from the stop is: so many stops on, in that phase.
struct Shift {
  int64_t stops, phase;
};

Shift shift_of(const WindowAxis& axis, int64_t tap) {
  const int64_t offset = tap * axis.dilation;
  return {offset / axis.stride, offset % axis.stride};
}

}  // namespace

PaddedBand::PaddedBand(const Window& window, int64_t rows) : window_(window), rows_(rows) {
  const WindowAxis &vertical = window.axes[1], &horizontal = window.axes[2];
  height_ = rows + shift_of(vertical, vertical.kernel - 1).stops;
  pitch_ = window.stops[2] + shift_of(horizontal, horizontal.kernel - 1).stops;
  plane_size_ = height_ * pitch_;
  for (int64_t h = 0; h < vertical.kernel; ++h) {
    for (int64_t w = 0; w < horizontal.kernel; ++w) {
      const int64_t row = shift_of(vertical, h).phase, column = shift_of(horizontal, w).phase;
      const bool known = std::any_of(planes_.begin(), planes_.end(), [&](const Plane& plane) {
        return plane.row == row && plane.column == column;
      });
      if (known) continue;
      Plane plane{row, column, 0, 0, 0};
      // j * stride + column - padding within [0, width)
      const int64_t stride = horizontal.stride, low = window.begin[2] - column,
                    high = window.image[2] + low;
      plane.begin = std::clamp<int64_t>(low <= 0 ? 0 : (low + stride - 1) / stride, 0, pitch_);
      plane.end =
          std::clamp<int64_t>(high <= 0 ? 0 : (high + stride - 1) / stride, plane.begin, pitch_);
      plane.first_column = plane.begin * stride - low;
      planes_.push_back(plane);
    }
  }
  std::stable_sort(planes_.begin(), planes_.end(),
                   [](const Plane& a, const Plane& b) { return a.row < b.row; });
  for (int64_t h = 0; h < vertical.kernel; ++h) {
    for (int64_t w = 0; w < horizontal.kernel; ++w) {
      const Shift down = shift_of(vertical, h), right = shift_of(horizontal, w);
      const auto plane = std::find_if(planes_.begin(), planes_.end(), [&](const Plane& it) {
        return it.row == down.phase && it.column == right.phase;
      });
      taps_.push_back((plane - planes_.begin()) * plane_size_ + down.stops * pitch_ + right.stops);
    }
  }
}

}  // namespace packlight::runtime

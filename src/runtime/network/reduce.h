#pragma once

#include <array>

#include "runtime/network/elementwise.h"

namespace packlight::runtime {

// How the elements of a tensor are walked to reduce some of its axes. Axes that run on and are of
// one kind are merged, so that most cases end as two.
struct ReduceWalk {
  struct Axis {
    int64_t size, stride;
  };
  std::vector<Axis> kept, reduced;  // outermost first
  int64_t outputs = 1, count = 1;   // elements kept, and reduced into each of them

  ReduceWalk(std::span<const int64_t> dims, const std::vector<bool>& taken) {
    int64_t stride = 1;
    bool last_taken = false;
    std::vector<Axis> axes[2];
    for (size_t d = dims.size(); d-- > 0;) {
      (taken[d] ? count : outputs) *= dims[d];
      if (dims[d] == 1) continue;
      std::vector<Axis>& of_kind = axes[taken[d]];
      if (!of_kind.empty() && last_taken == taken[d])
        of_kind.back().size *= dims[d];
      else
        of_kind.push_back({dims[d], stride});
      last_taken = taken[d];
      stride *= dims[d];
    }
    kept.assign(axes[0].rbegin(), axes[0].rend());
    reduced.assign(axes[1].rbegin(), axes[1].rend());
  }

  // Where the index-th position of `axes` without the innermost `skipped` ones is.
  static int64_t offset(const std::vector<Axis>& axes, size_t skipped, int64_t index) {
    int64_t at = 0;
    for (size_t d = axes.size() - skipped; d-- > 0;) {
      at += index % axes[d].size * axes[d].stride;
      index /= axes[d].size;
    }
    return at;
  }
};

// A reduction of elements of T is a type with
//   using Sum; static Sum start();                    the value of no elements
//   static Sum step(Sum, T x, T seen);                with one more element
//   static Sum join(Sum, Sum);                        of two parts
//   static T finish(Sum, int64_t count, T seen);      the output
// where `seen` is what the output held before when Reduction::kSecondPass, else 0.
template <class Reduction, class T>
class Reducer {
 public:
  using Sum = typename Reduction::Sum;

  Reducer(const RunCall& call, const ReduceWalk& walk)
      : call_(call), walk_(walk), x_(call.input(0).as<T>()), y_(call.output(0).as<T>()) {}

  void run() const {
    const int64_t grain = std::max<int64_t>(1, kElementGrain / std::max<int64_t>(1, walk_.count));
    const bool rows = !walk_.reduced.empty() && walk_.reduced.back().stride == 1;
    call_.parallel(walk_.outputs, grain, [&](int64_t begin, int64_t end) {
      return rows ? reduce_rows(begin, end) : reduce_columns(begin, end);
    });
  }

 private:
  static constexpr int kLanes = 8;  // running values that need not wait for one another
  static constexpr int64_t kWidth = 256;

  T seen(int64_t output) const {
    if constexpr (Reduction::kSecondPass)
      return y_[output];
    else
      return T{0};
  }

  // The innermost axis is reduced.
  void reduce_rows(int64_t begin, int64_t end) const {
    const int64_t inner = walk_.reduced.back().size;
    const int64_t runs = inner == 0 ? 0 : walk_.count / inner;
    for (int64_t output = begin; output < end; ++output) {
      const T* row = x_ + ReduceWalk::offset(walk_.kept, 0, output);
      const T before = seen(output);
      Sum sum = Reduction::start();
      for (int64_t r = 0; r < runs; ++r) {
        const T* run = row + ReduceWalk::offset(walk_.reduced, 1, r);
        sum = Reduction::join(sum, reduce_run(run, inner, before));
      }
      y_[output] = Reduction::finish(sum, walk_.count, before);
    }
  }

  static Sum reduce_run(const T* x, int64_t n, T before) {
    std::array<Sum, kLanes> lanes;
    lanes.fill(Reduction::start());
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (int j = 0; j < kLanes; ++j) lanes[j] = Reduction::step(lanes[j], x[i + j], before);
    }
    for (; i < n; ++i) lanes[0] = Reduction::step(lanes[0], x[i], before);
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) lanes[j] = Reduction::join(lanes[j], lanes[j + width]);
    }
    return lanes[0];
  }

  // The innermost axis stays: its elements side by side.
  void reduce_columns(int64_t begin, int64_t end) const {
    const int64_t inner = walk_.kept.empty() ? 1 : walk_.kept.back().size;
    const size_t innermost = walk_.kept.empty() ? 0 : 1;
    while (begin < end) {
      const int64_t column = begin % inner;
      const int64_t width = std::min({kWidth, inner - column, end - begin});
      const T* from = x_ + ReduceWalk::offset(walk_.kept, innermost, begin / inner) + column;
      reduce_block(from, begin, width);
      begin += width;
    }
  }

  void reduce_block(const T* from, int64_t output, int64_t width) const {
    std::array<Sum, kWidth> sums;
    std::array<T, kWidth> before;
    for (int64_t j = 0; j < width; ++j) {
      sums[j] = Reduction::start();
      before[j] = seen(output + j);
    }
    for (int64_t r = 0; r < walk_.count; ++r) {
      const T* row = from + ReduceWalk::offset(walk_.reduced, 0, r);
      for (int64_t j = 0; j < width; ++j) sums[j] = Reduction::step(sums[j], row[j], before[j]);
    }
    for (int64_t j = 0; j < width; ++j)
      y_[output + j] = Reduction::finish(sums[j], walk_.count, before[j]);
  }

  const RunCall& call_;
  const ReduceWalk& walk_;
  const T* x_;
  T* y_;
};

}  // namespace packlight::runtime

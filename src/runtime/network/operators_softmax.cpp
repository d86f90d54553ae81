#include <array>
#include <cmath>

#include "runtime/network/axis.h"
#include "runtime/network/elementwise.h"
#include "runtime/network/fast_math.h"

namespace packlight::runtime {
namespace {

constexpr int64_t kBlock = 256;  // floats worked on at a time: they stay in the nearest cache
using Block = std::array<float, kBlock>;

bool softmax_shape(const ShapeCall& call) {
  float_shape(call);
  normalised_axis(call, call.node.integer("axis", -1), call.input(0).rank());
  return true;
}

// Several running values, so that they need not wait for one another.
constexpr int kLanes = 8;

float largest_of(const float* x, int64_t n) {
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, -HUGE_VALF);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  }
  for (; i < n; ++i) lanes[0] = std::max(lanes[0], x[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

double sum_of(const float* x, int64_t n) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lanes[j] += x[i + j];
  }
  for (; i < n; ++i) lanes[0] += x[i];
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// y = e^(x - shift). NaN in x, which no maximum shows, reaches the sum of y.
void exponentials(const float* x, float shift, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = fast_exp(x[i] - shift);
}

void softmax_row(const float* x, int64_t n, float* y) {
  exponentials(x, largest_of(x, n), n, y);
  const auto scale = static_cast<float>(1 / sum_of(y, n));
  for (int64_t i = 0; i < n; ++i) y[i] *= scale;
}

void log_softmax_row(const float* x, int64_t n, float* y) {
  const float largest = largest_of(x, n);
  double sum = 0;
  Block block;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t length = std::min(kBlock, n - begin);
    exponentials(x + begin, largest, length, block.data());
    sum += sum_of(block.data(), length);
  }
  const auto log_sum = static_cast<float>(std::log(sum));
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] - largest - log_sum;
}

// The same down `width` columns at once, each of n elements that are `step` apart.
struct Columns {
  const float* x;
  float* y;
  int64_t n, step, width;

  void largest(Block& out) const {
    std::fill(out.begin(), out.end(), -HUGE_VALF);
    for (int64_t i = 0; i < n; ++i) {
      const float* row = x + i * step;
      for (int64_t j = 0; j < width; ++j) out[j] = row[j] > out[j] ? row[j] : out[j];
    }
  }

  void softmax() const {
    Block top, sum{};
    largest(top);
    for (int64_t i = 0; i < n; ++i) {
      const float* from = x + i * step;
      float* to = y + i * step;
      for (int64_t j = 0; j < width; ++j) to[j] = fast_exp(from[j] - top[j]);
      for (int64_t j = 0; j < width; ++j) sum[j] += to[j];
    }
    for (int64_t j = 0; j < width; ++j) sum[j] = 1 / sum[j];
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < width; ++j) y[i * step + j] *= sum[j];
    }
  }

  void log_softmax() const {
    Block top, sum{};
    largest(top);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < width; ++j) sum[j] += fast_exp(x[i * step + j] - top[j]);
    }
    for (int64_t j = 0; j < width; ++j) sum[j] = std::log(sum[j]);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < width; ++j) y[i * step + j] = x[i * step + j] - top[j] - sum[j];
    }
  }
};

template <bool logarithm>
void softmax(const RunCall& call) {
  const AxisView view(call, call.node.integer("axis", -1));
  const float* x = call.input(0).as<float>();
  float* y = call.output(0).as<float>();
  if (view.inner == 1) {
    return call.parallel(view.outer, view.lines_at_least(kElementGrain / 8),
                         [&](int64_t begin, int64_t end) {
                           for (int64_t row = begin; row < end; ++row) {
                             const int64_t at = row * view.size;
                             if constexpr (logarithm)
                               log_softmax_row(x + at, view.size, y + at);
                             else
                               softmax_row(x + at, view.size, y + at);
                           }
                         });
  }
  const int64_t blocks = (view.inner + kBlock - 1) / kBlock;
  call.parallel(view.outer * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t column = item % blocks * kBlock,
                    at = item / blocks * view.size * view.inner + column;
      const Columns columns{x + at, y + at, view.size, view.inner,
                            std::min(kBlock, view.inner - column)};
      logarithm ? columns.log_softmax() : columns.softmax();
    }
  });
}

constexpr Operator kOperators[] = {
    // In place: a row, or a block of columns, is read before it is written.
    {"LogSoftmax", softmax_shape, softmax<true>, false, true},
    {"Softmax", softmax_shape, softmax<false>, false, true},
};

}  // namespace

std::span<const Operator> softmax_operators() { return kOperators; }

}  // namespace packlight::runtime

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>

namespace packlight::calib {

// An interval of activations; it holds zero, which every quantization represents exactly.
struct Range {
  double low = 0, high = 0;
  double largest() const { return low + high < 0 ? -low : high; }
};

// The integers that activations go to. Symmetric: -2^(bits-1) .. 2^(bits-1) - 1 around zero point
// 0; asymmetric: 0 .. 2^bits - 1.
struct CodeGrid {
  int bits = 8;  // 2 to 8
  bool symmetric = true;
};

// code = clamp(round(x / scale) + zero_point, low_code, high_code), rounding half to even.
struct CodeParameters {
  float scale = 1;  // > 0
  int64_t zero_point = 0;
  int64_t low_code = -128, high_code = 127;
};
// Symmetric: scale = largest / (2^(bits-1) - 1). Asymmetric: scale = (high - low) / (2^bits - 1),
// zero_point = round(-low / scale). An empty range has scale 1.
CodeParameters code_parameters(const Range& range, const CodeGrid& grid);

// Watches one value of a network over calibration batches and says which interval its codes should
// cover; what lies outside saturates. Memory does not depend on how much it has seen. One thread
// at a time.
class Observer {
 public:
  virtual ~Observer() = default;
  // x: F32, not empty, all finite; `extremes`: its least and largest element (no zero put in).
  virtual void observe(const at::Tensor& x, const Range& extremes) = 0;
  // Symmetric grids: [-t, t]. Before anything was observed: empty.
  virtual Range range(const CodeGrid& grid) const = 0;
};

enum class ObserverKind : uint8_t { kMinMax, kMovingAverage, kPercentile, kMse, kEntropy };

struct ObserverOptions {
  double momentum = 0.01;     // moving average: least weight of a new batch, in (0, 1]
  double percentile = 99.99;  // in (50, 100]: percent of values that do not saturate, at each end
};

// "minmax", "moving", "percentile", "mse", "entropy". Errors: InvalidArgument listing them.
ObserverKind parse_observer(std::string_view name);
std::string_view observer_name(ObserverKind kind);
// Errors: InvalidArgument for an option out of range.
std::unique_ptr<Observer> make_observer(ObserverKind kind, const ObserverOptions& options = {});

}  // namespace packlight::calib

#include "calib/observer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "calib/activation_ranges.h"
#include "calib/histogram.h"
#include "error_code.h"

namespace packlight::calib {
namespace {

using test::expect_error;

constexpr CodeGrid kInt8{8, true}, kUint8{8, false};

void show(Observer& observer, const at::Tensor& x) {
  observer.observe(x, {x.min().item<float>(), x.max().item<float>()});
}

// Standard normal values at equal steps of probability, the same on every machine.
at::Tensor normal(int64_t n) {
  const at::Tensor p = (at::arange(n, at::kDouble) + 0.5) / static_cast<double>(n);
  return (at::erfinv(2 * p - 1) * std::sqrt(2.0)).to(at::kFloat);
}

Range range_of(ObserverKind kind, const at::Tensor& x, const CodeGrid& grid,
               const ObserverOptions& options = {}) {
  const auto observer = make_observer(kind, options);
  show(*observer, x);
  return observer->range(grid);
}

TEST(Observer, CodeParametersByHand) {
  const CodeParameters symmetric = code_parameters({-1.27, 0.5}, kInt8);
  EXPECT_FLOAT_EQ(symmetric.scale, 0.01f);
  EXPECT_EQ(symmetric.zero_point, 0);
  EXPECT_EQ(symmetric.low_code, -128);
  EXPECT_EQ(symmetric.high_code, 127);
  const CodeParameters asymmetric = code_parameters({-0.5, 2.05}, kUint8);
  EXPECT_FLOAT_EQ(asymmetric.scale, 0.01f);
  EXPECT_EQ(asymmetric.zero_point, 50);
  EXPECT_EQ(asymmetric.high_code, 255);
  const CodeParameters narrow = code_parameters({0, 7}, {4, true});
  EXPECT_FLOAT_EQ(narrow.scale, 1.0f);
  EXPECT_EQ(narrow.low_code, -8);
  // Zero is always a code; an empty range and one too small for F32 have scale 1.
  EXPECT_EQ(code_parameters({3, 5}, kUint8).zero_point, 0);
  EXPECT_FLOAT_EQ(code_parameters({3, 5.1}, kUint8).scale, 0.02f);
  EXPECT_EQ(code_parameters({}, kInt8).scale, 1.0f);
  EXPECT_EQ(code_parameters({-1e-44, 1e-44}, kInt8).scale, 1.0f);
  expect_error(ErrorCode::kInvalidArgument, {"9 bits"}, [] { code_parameters({0, 1}, {9, true}); });
}

TEST(Observer, MinMaxKeepsTheExtremesOfAllBatches) {
  const auto observer = make_observer(ObserverKind::kMinMax);
  show(*observer, at::tensor({-1.0f, 2.0f}));
  show(*observer, at::tensor({-3.0f, 0.5f}));
  EXPECT_EQ(observer->range(kUint8).low, -3);
  EXPECT_EQ(observer->range(kUint8).high, 2);
  EXPECT_EQ(observer->range(kInt8).low, -3);
  EXPECT_EQ(observer->range(kInt8).high, 3);
}

TEST(Observer, MovingAverageByHand) {
  const auto observer = make_observer(ObserverKind::kMovingAverage, {0.4, 99});
  show(*observer, at::tensor({-1.0f, 2.0f}));
  show(*observer, at::tensor({-3.0f, 10.0f}));
  // A plain mean while batches are fewer than 1 / momentum.
  EXPECT_DOUBLE_EQ(observer->range(kUint8).low, -2);
  EXPECT_DOUBLE_EQ(observer->range(kUint8).high, 6);
  show(*observer, at::tensor({-7.0f, 1.0f}));
  EXPECT_DOUBLE_EQ(observer->range(kUint8).low, -2 + 0.4 * -5);
  EXPECT_DOUBLE_EQ(observer->range(kUint8).high, 6 + 0.4 * -5);
}

TEST(Observer, PercentileLeavesOutThatShare) {
  // 1 to 1000, both signs: 99 % of |x| is up to 990; of each end by itself, 980.
  const at::Tensor x = at::cat({at::arange(1, 1001), -at::arange(1, 1001)}).to(at::kFloat);
  const double bin = 2 * 1000.0 / Histogram::kBins;
  EXPECT_NEAR(range_of(ObserverKind::kPercentile, x, kInt8, {0.01, 99}).high, 990, 1 + bin);
  const Range range = range_of(ObserverKind::kPercentile, x, kUint8, {0.01, 99});
  EXPECT_NEAR(range.high, 980, 1 + bin);
  EXPECT_NEAR(range.low, -980, 1 + bin);
  EXPECT_EQ(range_of(ObserverKind::kPercentile, x, kInt8, {0.01, 100}).high, 1000);
}

// The step of least error for normal values: clipping at 3.92 for 256 levels, 2.51 for 16
// (Banner et al. 2019, arXiv:1810.05723, table 1: 2.55 for 4 bits and 3.92 for 8 with levels in
// the middle of their cells; codes here include zero, which moves 4 bits a little).
TEST(Observer, MseClipsNormalValuesWhereTheoryDoes) {
  const at::Tensor x = normal(400000);
  EXPECT_NEAR(range_of(ObserverKind::kMse, x, kInt8).high, 3.92, 0.15);
  EXPECT_NEAR(range_of(ObserverKind::kMse, x, {4, true}).high, 2.55, 0.25);
}

// n values in [-1, 1] and one at 30: clipping to t costs (30 - t)^2, rounding n ((t + 1) / 255)^2 /
// 12, together least at t = (30 - k) / (1 + k), k = n / (12 * 255^2).
TEST(Observer, MseTreatsTheEndsByThemselves) {
  const double n = 1000000, k = n / (12 * 255 * 255);
  const at::Tensor x = at::cat({at::linspace(-1, 1, 1000000), at::full({1}, 30.0)});
  const Range range = range_of(ObserverKind::kMse, x, kUint8);
  EXPECT_NEAR(range.low, -1, 0.05);
  EXPECT_NEAR(range.high, (30 - k) / (1 + k), 0.6);  // two steps of the search
}

TEST(Observer, MseKeepsAUniformRange) {
  const Range range = range_of(ObserverKind::kMse, at::linspace(-2, 2, 100000), kInt8);
  EXPECT_NEAR(range.high, 2, 0.05);
}

TEST(Observer, EntropyKeepsAUniformRangeAndCutsAThinTail) {
  EXPECT_NEAR(range_of(ObserverKind::kEntropy, at::linspace(-2, 2, 1000000), kInt8).high, 2, 0.02);
  const at::Tensor x = at::cat({normal(400000), at::full({2}, 40.0)});
  const double t = range_of(ObserverKind::kEntropy, x, kInt8).high;
  EXPECT_GT(t, 2.5);
  EXPECT_LT(t, 6);
}

TEST(Observer, RangesGrowWithWhatComes) {
  for (const auto kind : {ObserverKind::kPercentile, ObserverKind::kMse, ObserverKind::kEntropy}) {
    const auto once = make_observer(kind), grown = make_observer(kind);
    const at::Tensor x = at::linspace(-64, 64, 1 << 16);
    show(*once, x);
    show(*grown, x.narrow(0, (1 << 15) - 100, 200));  // begins with a small limit
    show(*grown, x.narrow(0, 0, (1 << 15) - 100));
    show(*grown, x.narrow(0, (1 << 15) + 100, (1 << 15) - 100));
    // A bin is at most twice as wide as in one go.
    EXPECT_NEAR(grown->range(kInt8).high, once->range(kInt8).high, 64 * 0.02)
        << observer_name(kind);
  }
}

TEST(Observer, HistogramMergesNeighboursExactly) {
  Histogram histogram;
  const at::Tensor small = at::tensor({-1.0f, -0.5f, 0.25f, 0.0f}), large = at::tensor({7.0f});
  histogram.add(small, {-1, 0.25});
  EXPECT_EQ(histogram.limit(), 1);
  histogram.add(large, {7, 7});
  EXPECT_EQ(histogram.limit(), 8);
  EXPECT_EQ(histogram.zeros(), 1u);
  EXPECT_EQ(histogram.count(), 5u);
  const double half = histogram.width() / 2;
  uint64_t counted = 0;
  for (const float value : {-1.0f, -0.5f, 0.25f, 7.0f}) {
    const auto bin = static_cast<int64_t>((value + 8) / histogram.width());
    EXPECT_EQ(histogram.bins()[bin], 1u) << value;
    EXPECT_NEAR(histogram.centre(bin), value, half) << value;
    counted += histogram.bins()[bin];
  }
  EXPECT_EQ(counted, 4u);
}

TEST(Observer, NothingButZerosIsAnEmptyRange) {
  for (const auto kind : {ObserverKind::kMinMax, ObserverKind::kMovingAverage,
                          ObserverKind::kPercentile, ObserverKind::kMse, ObserverKind::kEntropy}) {
    const Range range = range_of(kind, at::zeros({10}), kInt8);
    EXPECT_EQ(range.low, 0) << observer_name(kind);
    EXPECT_EQ(range.high, 0) << observer_name(kind);
  }
}

TEST(Observer, RefusesOptionsOutOfRange) {
  expect_error(ErrorCode::kInvalidArgument, {"percentile 50"}, [] {
    make_observer(ObserverKind::kPercentile, {0.01, 50});
  });
  expect_error(ErrorCode::kInvalidArgument, {"momentum 0"}, [] {
    make_observer(ObserverKind::kMovingAverage, {0, 99});
  });
  expect_error(ErrorCode::kInvalidArgument, {"'max'", "entropy"}, [] { parse_observer("max"); });
}

// y = relu(x), z = -y
graph::Graph small_network() {
  graph::Graph graph;
  graph.name = "small";
  const auto x = graph.add_input("x", graph::ElementType::kF32, {graph::Dim("batch"), 2});
  const auto y = graph.add_node("Relu", "relu", {x}, {"y"}, {}, "")[0];
  graph.outputs = graph.add_node("Neg", "neg", {y}, {"z"}, {}, "");
  graph::infer_shapes(graph);
  return graph;
}

Batches batches_of(std::vector<at::Tensor> tensors) {
  return [tensors = std::move(tensors)](const std::function<bool(const Inputs&)>& use) {
    for (const at::Tensor& tensor : tensors)
      if (!use({{"x", tensor}})) return;
  };
}

TEST(ActivationRanges, EveryValueHasItsOwnObserver) {
  const graph::Graph graph = small_network();
  const auto x = *graph.find("x"), y = *graph.find("y");
  const Observers observers =
      observe_activations(graph, {x, y},
                          batches_of({at::tensor({-4.0f, 1.0f}).reshape({1, 2}),
                                      at::tensor({2.0f, 3.0f, -1.0f, 0.0f}).reshape({2, 2})}),
                          ObserverKind::kMinMax);
  EXPECT_EQ(observers.at(x)->range(kUint8).low, -4);
  EXPECT_EQ(observers.at(x)->range(kUint8).high, 3);
  EXPECT_EQ(observers.at(y)->range(kUint8).low, 0);
}

TEST(ActivationRanges, RefusesWhatCannotBeCalibratedOn) {
  const graph::Graph graph = small_network();
  const auto x = *graph.find("x"), z = *graph.find("z");
  const at::Tensor good = at::ones({1, 2});
  at::Tensor bad = at::ones({1, 2});
  bad.data_ptr<float>()[1] = std::numeric_limits<float>::quiet_NaN();
  const auto run = [&](std::vector<graph::ValueId> values, std::vector<at::Tensor> tensors) {
    observe_activations(graph, values, batches_of(std::move(tensors)), ObserverKind::kMse);
  };
  expect_error(ErrorCode::kInvalidArgument, {"'x'", "nan", "element 1", "batch 1"}, [&] {
    run({x}, {good, bad});
  });
  bad.data_ptr<float>()[1] = -std::numeric_limits<float>::infinity();
  expect_error(ErrorCode::kInvalidArgument, {"'x'", "-inf"}, [&] { run({x}, {bad}); });
  expect_error(ErrorCode::kInvalidArgument, {"no calibration samples"}, [&] { run({x}, {}); });
  expect_error(ErrorCode::kInvalidArgument, {"'z'", "no node"}, [&] { run({z}, {good}); });
}

}  // namespace
}  // namespace packlight::calib

#include <gtest/gtest.h>

#include <limits>

#include "error_code.h"
#include "operators/recurrent_activation.h"
#include "operators/resize.h"
#include "operators/slice.h"
#include "operators/suppression.h"
#include "operators/window.h"

namespace packlight::operators {
namespace {

TEST(WindowTest, StopsOfEveryPadding) {
  struct Case {
    int64_t kernel, stride, dilation, begin, end;
    AutoPad auto_pad;
    bool ceil;
    int64_t size, want_begin, want_end, want_count;
  };
  const AutoPad none = AutoPad::kNotSet;
  for (const Case& c :
       {Case{3, 1, 1, 0, 0, none, false, 5, 0, 0, 3}, Case{3, 2, 1, 1, 0, none, false, 6, 1, 0, 3},
        Case{3, 2, 2, 0, 0, none, false, 5, 0, 0, 1}, Case{3, 2, 2, 0, 0, none, false, 4, 0, 0, 0},
        // Ceil: 6 elements, windows at 0, 2, 4, of which the last needs one more element.
        Case{3, 2, 1, 0, 0, none, true, 6, 0, 1, 3},
        // The window that would begin at 4 sees padding only.
        Case{1, 2, 1, 0, 1, none, true, 4, 0, 1, 2},
        Case{2, 2, 1, 0, 0, AutoPad::kSameUpper, false, 5, 0, 1, 3},
        Case{2, 2, 1, 0, 0, AutoPad::kSameLower, false, 5, 1, 0, 3},
        // A stride beyond the kernel needs no pads, and never takes any away.
        Case{1, 3, 1, 0, 0, AutoPad::kSameUpper, false, 6, 0, 0, 2},
        Case{3, 1, 1, 9, 9, AutoPad::kValid, false, 5, 0, 0, 3}}) {
    const WindowStops got =
        window_stops({c.kernel, c.stride, c.dilation, c.begin, c.end, c.auto_pad, c.ceil}, c.size);
    EXPECT_EQ(got.count, c.want_count) << c.kernel << ' ' << c.stride << ' ' << c.size;
    if (c.want_count == 0) continue;
    EXPECT_EQ(got.begin, c.want_begin) << c.kernel << ' ' << c.stride << ' ' << c.size;
    EXPECT_EQ(got.end, c.want_end) << c.kernel << ' ' << c.stride << ' ' << c.size;
  }
}

TEST(WindowTest, TransposedExtents) {
  WindowAxis axis{.kernel = 3, .stride = 2, .begin = 1, .end = 0};
  EXPECT_EQ(transposed_extent(axis, 4).full, 9);
  EXPECT_EQ(transposed_extent(axis, 4).count, 8);
  axis.output_padding = 1;
  EXPECT_EQ(transposed_extent(axis, 4).count, 9);
  axis.output_size = 12;  // more than there is: nothing is taken away in front
  EXPECT_EQ(transposed_extent(axis, 4).begin, 0);
  EXPECT_EQ(transposed_extent(axis, 4).count, 12);
  axis.output_size = 7;  // 10 - 7 = 3: the odd one in front unless SAME_UPPER
  EXPECT_EQ(transposed_extent(axis, 4).begin, 2);
  axis.auto_pad = AutoPad::kSameUpper;
  EXPECT_EQ(transposed_extent(axis, 4).begin, 1);
}

TEST(SliceRangeTest, ClampsAsOnnxDoes) {
  struct Case {
    int64_t size, start, end, step, want_start, want_length;
  };
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min(),
                    kMax = std::numeric_limits<int64_t>::max();
  for (const Case& c :
       {Case{10, 0, 10, 1, 0, 10}, Case{10, -3, kMax, 1, 7, 3}, Case{10, kMin, kMax, 3, 0, 4},
        Case{10, 20, 30, 1, 10, 0}, Case{10, 5, 2, 1, 5, 0}, Case{10, kMax, kMin, -1, 9, 10},
        Case{10, -1, kMin, -3, 9, 4}, Case{10, 3, -1, -1, 3, 0}, Case{10, 8, 2, -2, 8, 3},
        Case{0, 0, kMax, 1, 0, 0}, Case{0, kMax, kMin, -1, 0, 0}, Case{4, 0, kMax, kMax, 0, 1},
        Case{4, -1, kMin, kMin, 3, 1}}) {
    const SliceRange got = slice_range(c.size, c.start, c.end, c.step);
    EXPECT_EQ(got.length, c.want_length)
        << c.size << ' ' << c.start << ' ' << c.end << ' ' << c.step;
    EXPECT_EQ(got.start, c.want_start) << c.size << ' ' << c.start << ' ' << c.end << ' ' << c.step;
  }
}

TEST(RangeLengthTest, CountsWithoutOverflow) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max(),
                    kMin = std::numeric_limits<int64_t>::min();
  EXPECT_EQ(range_length(2, 9, 3), 3);
  EXPECT_EQ(range_length(10, 6, -3), 2);
  EXPECT_EQ(range_length(6, 10, -3), 0);
  EXPECT_EQ(range_length(kMin, kMax, kMax), 3);
  EXPECT_EQ(range_length(kMax, kMin, kMin), 2);
  EXPECT_EQ(range_length(kMin, kMax, 1), kMax);
}

TEST(WindowTest, AttributesThatBreakARule) {
  const auto refused = [](const WindowAttributes& attributes, const std::string& part) {
    test::expect_error(ErrorCode::kInvalidArgument, {part}, [&] {
      read_window(attributes, {3, 3});
    });
  };
  refused({.kernel_shape = {3}}, "kernel_shape [3] is not the kernel's [3, 3]");
  refused({.strides = {1}}, "strides has 1 entries, 2 are needed");
  refused({.dilations = {1, 0}}, "dilations holds 0");
  refused({.pads = {0, 0, 0, -1}}, "pads holds -1");
  refused({.auto_pad = "SAME"}, "auto_pad 'SAME'");
  test::expect_error(ErrorCode::kInvalidArgument, {"a kernel of size 0"}, [] {
    read_window({}, {3, 0});
  });
}

TEST(ResizeTest, SizesOfEveryWay) {
  EXPECT_EQ(scaled_size(10, 1, 0.7), 7);
  EXPECT_EQ(scaled_size(10, 1, 0), std::nullopt);
  EXPECT_EQ(scaled_size(10, 1, 1e30), std::nullopt);
  ResizeSettings settings{"nearest", "half_pixel", "floor", "not_larger"};
  const std::vector<int64_t> dims{1, 4, 10}, sizes{8, 5};
  settings.axes = {1, -1};
  const auto axes = resized_axes(settings, dims, {}, {}, sizes);
  ASSERT_EQ(axes.size(), 2u);
  EXPECT_EQ(axes[0].out, 2);
  EXPECT_EQ(axes[1].out, 5);
  const auto refused = [&](std::vector<int64_t> chosen, std::vector<int64_t> wanted,
                           const std::string& part) {
    settings.axes = std::move(chosen);
    test::expect_error(ErrorCode::kInvalidArgument, {part},
                       [&] { resized_axes(settings, dims, {}, {}, wanted); });
  };
  refused({1, 1}, {2, 2}, "given twice");
  refused({3}, {2}, "axis 3 is outside");
  refused({1}, {2, 2}, "2 entries, not 1");
  refused({1}, {-1}, "size -1");
  refused({1}, {}, "must be given");
  settings.mode = "quadratic";
  test::expect_error(ErrorCode::kInvalidArgument, {"mode 'quadratic'"},
                     [&] { check_settings(settings); });
}

// Half a pixel down and to the right of an element: each of four gets a quarter.
TEST(ResizeTest, TapsOfAFilter) {
  const ResizeSettings settings{"linear", "half_pixel", "floor", "stretch"};
  const ResizeAxis axis{0, 4, 2, 0.5};
  const auto x = resize_coordinates(axis, settings);
  EXPECT_EQ(x, (std::vector<double>{0.5, 2.5}));
  const ResizeTaps taps = resize_taps(x, axis, settings);
  EXPECT_EQ(taps.indices, (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(taps.weights, (std::vector<double>{0.5, 0.5, 0.5, 0.5}));
  ResizeSettings wide = settings;
  wide.antialias = true;
  test::expect_error(ErrorCode::kInvalidArgument, {"a filter of"}, [&] {
    resize_taps(x, {0, 4, 2, 1e-9}, wide);
  });
}

TEST(SuppressionTest, KeepsTheBetterOfTwoThatOverlap) {
  const float boxes[] = {0, 0, 1, 1, 0, 0.1f, 1, 1.1f, 0, 10, 1, 11};
  const float scores[] = {0.7f, 0.9f, 0.8f};
  SuppressionSpec spec;
  spec.max_boxes = 3;
  spec.iou_threshold = 0.5f;
  EXPECT_EQ(suppressed(boxes, scores, {1, 1, 3}, spec), (std::vector<int64_t>{0, 0, 1, 0, 0, 2}));
  spec.score_threshold = 0.85f;
  EXPECT_EQ(suppressed(boxes, scores, {1, 1, 3}, spec), (std::vector<int64_t>{0, 0, 1}));
  spec.iou_threshold = 1.5f;
  test::expect_error(ErrorCode::kInvalidArgument, {"iou_threshold 1.5"}, [&] {
    suppressed(boxes, scores, {1, 1, 3}, spec);
  });
}

TEST(RecurrentActivationTest, ParametersGoToThoseThatTakeThem) {
  constexpr std::string_view kDefaults[] = {"Sigmoid", "Tanh"};
  const auto given = recurrent_activations({{"TANH", "affine"}, {3}, {4}}, kDefaults, 1);
  EXPECT_EQ(given[0].function, Activation::kTanh);
  EXPECT_EQ(given[1].function, Activation::kAffine);
  EXPECT_EQ(given[1].alpha, 3);
  EXPECT_EQ(given[1].beta, 4);
  EXPECT_EQ(recurrent_activations({}, kDefaults, 2)[3].function, Activation::kTanh);
  EXPECT_EQ(recurrent_activations({{"Elu", "Relu"}, {}, {}}, kDefaults, 1)[0].alpha, 1);
  test::expect_error(ErrorCode::kInvalidArgument, {"'Gelu' is no activation"}, [&] {
    recurrent_activations({{"Gelu", "Tanh"}, {}, {}}, kDefaults, 1);
  });
  test::expect_error(ErrorCode::kInvalidArgument, {"1 activations; 2 directions take 2 each"}, [&] {
    recurrent_activations({{"Tanh"}, {}, {}}, kDefaults, 2);
  });
}

}  // namespace
}  // namespace packlight::operators

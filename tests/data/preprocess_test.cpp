#include "data/preprocess.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "error_code.h"
#include "temp_dir.h"

namespace packlight::data {
namespace {

using test::expect_error;

Preprocess parse(const std::string& inside) {
  return parse_preprocess("preprocess: {" + inside + "}", "m.yaml");
}

TEST(PreprocessYamlTest, ReadsEveryKey) {
  const Preprocess spec = parse(
      "resize: [48, 320], keep_aspect: pad, pad_at: start, pad_value: 114, crop: [40, 300], "
      "channels: bgr, scale: 0.5, mean: [1, 2, 3], std: 4, layout: nhwc");
  EXPECT_EQ(spec.resize->height, 48);
  EXPECT_EQ(spec.resize->width, 320);
  EXPECT_EQ(spec.keep_aspect, Aspect::kPad);
  EXPECT_EQ(spec.pad_at, PadAt::kStart);
  EXPECT_EQ(spec.pad_value, 114);
  EXPECT_EQ(spec.crop->height, 40);
  EXPECT_EQ(spec.crop->width, 300);
  EXPECT_EQ(*spec.channels, Channels::kBgr);
  EXPECT_EQ(spec.scale, 0.5);
  EXPECT_EQ(spec.mean, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(spec.std, std::vector<double>{4});
  EXPECT_EQ(spec.layout, Layout::kNhwc);
}

TEST(PreprocessYamlTest, RefusesByFileKeyValueAndRule) {
  const ErrorCode bad = ErrorCode::kInvalidArgument;
  const auto refuse = [&](const std::string& inside, std::initializer_list<std::string> parts) {
    SCOPED_TRACE(inside);
    expect_error(bad, parts, [&] { parse(inside); });
  };
  refuse("resise: 3", {"m.yaml", "resise", "unknown key", "resize, keep_aspect"});
  refuse("resize: 3", {"m.yaml", "resize", "3", "[height, width]"});
  refuse("resize: [0, 3]", {"[0, 3]", "1 to 16384"});
  refuse("resize: [2.5, 3]", {"2.5", "whole"});
  refuse("resize: [1, 2, 3]", {"[1, 2, 3]"});
  refuse("crop: [1, 99999]", {"crop", "99999"});
  refuse("crop: {a: 1}", {"crop", "a mapping"});
  refuse("resize: [4, 4], keep_aspect: fit", {"keep_aspect", "fit", "none, pad, crop"});
  refuse("keep_aspect: pad", {"keep_aspect", "without resize"});
  refuse("channels: [rgb]", {"channels", "[rgb]", "rgb, bgr, gray"});
  refuse("scale: 0", {"scale", "above 0"});
  refuse("scale: .nan", {"scale", ".nan"});
  refuse("scale: x", {"scale", "x"});
  refuse("std: [1, 0, 1]", {"std", "above 0"});
  refuse("mean: [1, 2]", {"mean", "[1, 2]"});
  refuse("mean: ~", {"mean", "nothing"});
  refuse("channels: gray, mean: [1, 2, 3]", {"mean", "3 values for 1"});
  refuse("scale: 1, scale: 2", {"scale", "twice"});
  refuse("pad_value: 256", {"pad_value", "256"});
  expect_error(bad, {"m.yaml", "preprocess"}, [] { parse_preprocess("other: 1", "m.yaml"); });
  expect_error(bad, {"m.yaml"}, [] { parse_preprocess("", "m.yaml"); });
  expect_error(bad, {"a mapping"}, [] { parse_preprocess("preprocess: 3", "m.yaml"); });
  expect_error(ErrorCode::kCorrupt, {"m.yaml", "line"},
               [] { parse_preprocess("preprocess: {a", "m.yaml"); });
  expect_error(ErrorCode::kCorrupt, {"m.yaml"},
               [] { parse_preprocess(std::string(100000, '['), "m.yaml"); });
}

TEST(PreprocessJsonTest, HoldsWhatTheYamlSays) {
  for (const char* inside :
       {"scale: 0.5",
        "resize: [48, 320], keep_aspect: pad, pad_at: start, pad_value: 114.5, channels: bgr, "
        "scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: 0.1, layout: nhwc",
        "resize: [1, 2], crop: [1, 1], keep_aspect: crop, channels: gray, mean: 3"}) {
    SCOPED_TRACE(inside);
    const Preprocess want = parse(inside);
    const std::string text = preprocess_to_json(want).dump();
    const Preprocess got = preprocess_from_json(base::parse_json(text, "x"), "x.plk");
    EXPECT_EQ(preprocess_to_json(got).dump(), text);
    EXPECT_EQ(got.mean, want.mean);
    EXPECT_EQ(got.std, want.std);
    EXPECT_EQ(got.scale, want.scale);
    EXPECT_EQ(got.pad_value, want.pad_value);
    EXPECT_EQ(got.channels, want.channels);
    EXPECT_EQ(got.layout, want.layout);
    EXPECT_EQ(got.keep_aspect, want.keep_aspect);
    EXPECT_EQ(got.resize.has_value(), want.resize.has_value());
    EXPECT_EQ(got.crop.has_value(), want.crop.has_value());
  }
}

TEST(PreprocessJsonTest, RefusesByFileKeyValueAndRule) {
  const auto refuse = [](const char* text, std::initializer_list<std::string> parts) {
    SCOPED_TRACE(text);
    expect_error(ErrorCode::kInvalidArgument, parts,
                 [&] { preprocess_from_json(base::parse_json(text, "x"), "x.plk"); });
  };
  refuse("[]", {"'x.plk'", "object"});
  refuse(R"({"resise": 3})", {"'x.plk'", "resise", "unknown key"});
  refuse(R"({"scale": "1"})", {"scale", "\"1\"", "above 0"});
  refuse(R"({"resize": [3]})", {"resize", "[3]"});
  refuse(R"({"resize": [3, "4"]})", {"resize", "whole"});
  refuse(R"({"mean": [1, null, 2]})", {"mean"});
  refuse(R"({"channels": ["rgb"]})", {"channels", "rgb, bgr, gray"});
  refuse(R"({"keep_aspect": "pad"})", {"without resize"});
}

TEST(PreprocessYamlTest, FindsTheSidecar) {
  const test::TempDir dir;
  EXPECT_FALSE(find_preprocess(dir / "model.onnx"));
  test::write_file(dir / "model.yaml", "preprocess: {scale: 2}");
  EXPECT_EQ(find_preprocess(dir / "model.onnx")->scale, 2);
}

// height x width x channels with pixel i = i.
Picture counting(int height, int width, int channels) {
  Picture picture{height, width, channels, {}};
  picture.pixels.resize(static_cast<size_t>(height) * width * channels);
  std::iota(picture.pixels.begin(), picture.pixels.end(), uint8_t{0});
  return picture;
}

std::vector<float> values(const Array& array) { return {array.f32().begin(), array.f32().end()}; }

Preprocess plain() {
  Preprocess spec;
  spec.scale = 1;
  return spec;
}

TEST(PreprocessorTest, LaysOutChannels) {
  Preprocess spec = plain();
  const Picture picture = counting(1, 2, 3);  // two pixels: 0 1 2, 3 4 5
  Array rgb = Preprocessor(spec, Channels::kRgb).apply(picture, "p");
  EXPECT_EQ(rgb.shape, (std::vector<int64_t>{3, 1, 2}));
  EXPECT_EQ(values(rgb), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  spec.layout = Layout::kNhwc;
  spec.channels = Channels::kBgr;
  const Array bgr = Preprocessor(spec, Channels::kRgb).apply(picture, "p");
  EXPECT_EQ(bgr.shape, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(values(bgr), (std::vector<float>{2, 1, 0, 5, 4, 3}));
  const Array repeated = Preprocessor(spec, Channels::kRgb).apply(counting(1, 2, 1), "p");
  EXPECT_EQ(values(repeated), (std::vector<float>{0, 0, 0, 1, 1, 1}));
}

TEST(PreprocessorTest, NormalisesInOutputOrder) {
  Preprocess spec = plain();
  spec.scale = 0.5;
  spec.mean = {1, 2, 3};
  spec.std = {2, 4, 8};
  const Picture red{1, 1, 3, {200, 100, 50}};
  // (100 - 1) / 2, (50 - 2) / 4, (25 - 3) / 8: all exact.
  EXPECT_EQ(values(Preprocessor(spec, Channels::kRgb).apply(red, "p")),
            (std::vector<float>{49.5f, 12, 2.75f}));
  // blue first: (25 - 1) / 2, (50 - 2) / 4, (100 - 3) / 8
  EXPECT_EQ(values(Preprocessor(spec, Channels::kBgr).apply(red, "p")),
            (std::vector<float>{12, 12, 12.125f}));
  EXPECT_EQ(Preprocessor(spec, Channels::kRgb).black(),
            (std::vector<float>{-0.5f, -0.5f, -0.375f}));
  expect_error(ErrorCode::kInvalidArgument, {"mean", "3 values for 1"},
               [&] { Preprocessor(spec, Channels::kGray); });
}

TEST(PreprocessorTest, GrayIsBt601) {
  const Picture picture{1, 4, 3, {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255}};
  EXPECT_EQ(to_gray(picture).pixels, (std::vector<uint8_t>{76, 150, 29, 255}));
}

TEST(ResizeTest, SamplesHalfPixelCentres) {
  const FloatPicture row{1, 2, 1, {0, 8}};
  // Centres of 4 pixels over 2: -0.25 (clamped), 0.25, 0.75, 1.25 (clamped).
  EXPECT_EQ(resize_bilinear(row, 1, 4).pixels, (std::vector<float>{0, 2, 6, 8}));
  EXPECT_EQ(resize_bilinear(row, 1, 1).pixels, std::vector<float>{4});
  EXPECT_EQ(resize_bilinear({2, 1, 1, {0, 8}}, 4, 1).pixels, (std::vector<float>{0, 2, 6, 8}));
  EXPECT_EQ(resize_bilinear({1, 1, 2, {3, 5}}, 2, 2).pixels,
            (std::vector<float>{3, 5, 3, 5, 3, 5, 3, 5}));
}

TEST(PreprocessorTest, KeepsTheAspectByPaddingOrCutting) {
  Preprocess spec = plain();
  spec.resize = Size{2, 4};
  spec.keep_aspect = Aspect::kPad;
  spec.pad_value = 9;
  const Picture square{2, 2, 1, {1, 2, 3, 4}};
  EXPECT_EQ(values(Preprocessor(spec, Channels::kGray).apply(square, "p")),
            (std::vector<float>{9, 1, 2, 9, 9, 3, 4, 9}));
  spec.pad_at = PadAt::kStart;
  EXPECT_EQ(values(Preprocessor(spec, Channels::kGray).apply(square, "p")),
            (std::vector<float>{1, 2, 9, 9, 3, 4, 9, 9}));
  spec.keep_aspect = Aspect::kCrop;
  spec.resize = Size{2, 2};
  EXPECT_EQ(values(Preprocessor(spec, Channels::kGray).apply(counting(2, 4, 1), "p")),
            (std::vector<float>{1, 2, 5, 6}));
}

TEST(PreprocessorTest, CutsTheMiddleAndRefusesSmallPictures) {
  Preprocess spec = plain();
  spec.crop = Size{1, 2};
  EXPECT_EQ(values(Preprocessor(spec, Channels::kGray).apply(counting(3, 4, 1), "p")),
            (std::vector<float>{5, 6}));
  expect_error(ErrorCode::kInvalidArgument, {"'p.png'", "1 x 3", "crop of 2 x 1"},
               [&] { Preprocessor(spec, Channels::kGray).apply(counting(3, 1, 1), "p.png"); });
}

}  // namespace
}  // namespace packlight::data

#include "data/preprocess.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"

namespace packlight::data {
namespace {

void check_length(const char* key, const std::vector<double>& values, int channels) {
  if (values.size() > 1 && static_cast<int>(values.size()) != channels) {
    fail(ErrorCode::kInvalidArgument,
         "[data.preprocess] {}: {} values for {} channels: one for all, or one for each", key,
         values.size(), channels);
  }
}

double value_of(const std::vector<double>& values, int channel, double otherwise) {
  if (values.empty()) return otherwise;
  return values.size() == 1 ? values[0] : values[channel];
}

int scaled(int side, double ratio) {
  return std::max(1, static_cast<int>(std::floor(side * ratio + 0.5)));
}

}  // namespace

Preprocessor::Preprocessor(const Preprocess& spec, Channels default_channels)
    : spec_(spec), channels_(spec.channels.value_or(default_channels)) {
  check_length("mean", spec_.mean, channels());
  check_length("std", spec_.std, channels());
  for (const double std : spec_.std) {
    if (!(std > 0))
      fail(ErrorCode::kInvalidArgument, "[data.preprocess] std: {} is not above 0", std);
  }
}

// (x * scale - mean) / std as x * a + b, in double until the end.
float Preprocessor::scale(int channel) const {
  return static_cast<float>(spec_.scale / value_of(spec_.std, channel, 1));
}
float Preprocessor::offset(int channel) const {
  return static_cast<float>(-value_of(spec_.mean, channel, 0) / value_of(spec_.std, channel, 1));
}

std::vector<float> Preprocessor::black() const {
  std::vector<float> values;
  for (int c = 0; c < channels(); ++c) values.push_back(offset(c));
  return values;
}

FloatPicture Preprocessor::resize(const FloatPicture& picture) const {
  const auto [height, width] = *spec_.resize;
  if (spec_.keep_aspect == Aspect::kNone) return resize_bilinear(picture, height, width);
  const double down = static_cast<double>(height) / picture.height,
               across = static_cast<double>(width) / picture.width;
  if (spec_.keep_aspect == Aspect::kPad) {
    const double ratio = std::min(down, across);
    const int rows = std::min(height, scaled(picture.height, ratio));
    const int cols = std::min(width, scaled(picture.width, ratio));
    const bool centred = spec_.pad_at == PadAt::kCentre;
    return crop_or_pad(resize_bilinear(picture, rows, cols), centred ? -((height - rows) / 2) : 0,
                       centred ? -((width - cols) / 2) : 0, height, width, spec_.pad_value);
  }
  // The part of the picture that has the aspect wanted would do; but resizing first and cutting
  // then is what other tools do, and their pixels are what a model was trained on.
  const double ratio = std::max(down, across);
  const int rows = std::max(height, scaled(picture.height, ratio));
  const int cols = std::max(width, scaled(picture.width, ratio));
  if (static_cast<int64_t>(rows) * cols > kMaxPicturePixels) {
    fail(ErrorCode::kInvalidArgument,
         "[data.preprocess] a picture of {} x {} would be {} x {} before it is cut: at most {} "
         "pixels",
         picture.width, picture.height, cols, rows, kMaxPicturePixels);
  }
  return crop_or_pad(resize_bilinear(picture, rows, cols), (rows - height) / 2, (cols - width) / 2,
                     height, width, 0);
}

Array Preprocessor::apply(Picture source, const std::string& origin) const {
  FloatPicture picture = to_float(channels_ == Channels::kGray ? to_gray(std::move(source))
                                                               : to_rgb(std::move(source)));
  if (spec_.resize) {
    try {
      picture = resize(picture);
    } catch (const Error& e) {
      throw Error(e.code(), one_line(fmt::format("'{}': {}", origin, e.what())));
    }
  }
  if (spec_.crop) {
    const auto [height, width] = *spec_.crop;
    if (picture.height < height || picture.width < width) {
      fail(ErrorCode::kInvalidArgument,
           "[data.preprocess] '{}': {} x {} pixels (width x height) are smaller than the crop of "
           "{} x {}",
           origin, picture.width, picture.height, width, height);
    }
    picture = crop_or_pad(picture, (picture.height - height) / 2, (picture.width - width) / 2,
                          height, width, 0);
  }
  const int channels = picture.channels;
  const bool planes = spec_.layout == Layout::kNchw;
  const int64_t h = picture.height, w = picture.width, area = h * w;
  Array array = make_array(codec::DType::kF32, planes ? std::vector<int64_t>{channels, h, w}
                                                      : std::vector<int64_t>{h, w, channels});
  float* out = array.f32().data();
  for (int c = 0; c < channels; ++c) {
    const int from = channels_ == Channels::kBgr ? channels - 1 - c : c;
    const float a = scale(c), b = offset(c);
    for (int64_t i = 0; i < area; ++i)
      out[planes ? c * area + i : i * channels + c] = picture.pixels[i * channels + from] * a + b;
  }
  return array;
}

}  // namespace packlight::data

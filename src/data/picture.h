#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace packlight::data {

// 8-bit pixels, row-major, channels interleaved: pixels[(y * width + x) * channels + c].
struct Picture {
  int height = 0, width = 0;
  int channels = 0;  // 1 gray, 3 red green blue
  std::vector<uint8_t> pixels;
};

// Refused before anything is decoded: what a camera takes is smaller, what a hostile header says is
// not.
constexpr int kMaxPictureSide = 16384;
constexpr int64_t kMaxPicturePixels = 64'000'000;

// PNG or JPEG (stb_image). 16-bit samples keep their upper byte; an alpha channel is dropped, not
// blended; a palette becomes colours; EXIF orientation is ignored. Gray stays gray (channels 1).
// Any thread. Errors: NotFound, Io; Corrupt for bytes that are no whole picture; Unsupported for
// one that is too large. All name the file.
Picture read_picture(const std::filesystem::path& path);
Picture decode_picture(std::span<const std::byte> bytes, const std::string& origin);

// One channel: (19595 R + 38470 G + 7471 B + 32768) / 65536, BT.601's luma as Pillow's mode "L" has
// it.
Picture to_gray(Picture picture);
// Three channels: gray is repeated.
Picture to_rgb(Picture picture);

// A float picture of the same order of elements, between resizing and normalisation; values 0 to
// 255.
struct FloatPicture {
  int height = 0, width = 0, channels = 0;
  std::vector<float> pixels;
};
FloatPicture to_float(const Picture& picture);

// Bilinear, half-pixel centres: output pixel i samples the input at (i + 0.5) * in / out - 0.5,
// clamped to [0, in - 1], and mixes its two neighbours linearly in each direction. It is ONNX
// Resize's "linear" with "half_pixel" and OpenCV's INTER_LINEAR (without rounding to integers);
// there is no antialiasing filter, so reducing by more than 2 skips pixels. Sizes >= 1.
FloatPicture resize_bilinear(const FloatPicture& in, int height, int width);

// `height` x `width` pixels from row `top`, column `left`, either of which may lie outside; what is
// not covered gets `fill`.
FloatPicture crop_or_pad(const FloatPicture& in, int top, int left, int height, int width,
                         float fill);

}  // namespace packlight::data

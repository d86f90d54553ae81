#include "data/picture.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/fail.h"
#include "base/mapped_file.h"

namespace packlight::data {
namespace {

// What a decoder may allocate at once for the picture in hand: a PNG's compressed data could
// otherwise swell to a thousand times the file.
thread_local size_t allocation_limit = 0;

void* limited_realloc(void* old, size_t size) {
  return size > allocation_limit ? nullptr : std::realloc(old, size);
}
void* limited_malloc(size_t size) { return size > allocation_limit ? nullptr : std::malloc(size); }

}  // namespace
}  // namespace packlight::data

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_FAILURE_STRINGS
#define STBI_MAX_DIMENSIONS 16384
#define STBI_ASSERT(condition) static_cast<void>(condition)
#define STBI_MALLOC(size) packlight::data::limited_malloc(size)
#define STBI_REALLOC(old, size) packlight::data::limited_realloc(old, size)
#define STBI_FREE(old) std::free(old)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

namespace packlight::data {
namespace {

static_assert(kMaxPictureSide == STBI_MAX_DIMENSIONS);
constexpr size_t kMaxFileBytes = size_t{1} << 30;  // stb_image counts in int

// A sample between pixels `low` and `high` = low + 1 (or low at the edge).
struct Tap {
  int low, high;
  float weight;  // of high
};

std::vector<Tap> bilinear_taps(int in, int out) {
  std::vector<Tap> taps(out);
  for (int i = 0; i < out; ++i) {
    const double at = std::clamp((i + 0.5) * in / out - 0.5, 0.0, in - 1.0);
    const int low = static_cast<int>(at);
    taps[i] = {low, std::min(low + 1, in - 1), static_cast<float>(at - low)};
  }
  return taps;
}

}  // namespace

Picture decode_picture(std::span<const std::byte> bytes, const std::string& origin) {
  if (bytes.size() > kMaxFileBytes) {
    fail(ErrorCode::kUnsupported, "[data.picture] '{}': {} bytes, at most {} are read", origin,
         bytes.size(), kMaxFileBytes);
  }
  const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
  const int size = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  allocation_limit = 1 << 20;  // the decoder's own state
  if (bytes.empty() || !stbi_info_from_memory(data, size, &width, &height, &channels))
    fail(ErrorCode::kCorrupt, "[data.picture] '{}': no PNG or JPEG, or a damaged one", origin);
  if (width < 1 || height < 1 || width > kMaxPictureSide || height > kMaxPictureSide ||
      static_cast<int64_t>(width) * height > kMaxPicturePixels) {
    fail(ErrorCode::kUnsupported,
         "[data.picture] '{}': {} x {} pixels, at most {} a side and {} in all are read", origin,
         width, height, kMaxPictureSide, kMaxPicturePixels);
  }
  // 8 bytes a pixel is the widest (RGBA of 16 bits), JPEG pads to blocks of 64, buffers grow by
  // doubling.
  allocation_limit =
      2 * (static_cast<size_t>(width + 64) * (height + 64) * 8 + (1 << 20)) + 2 * bytes.size();
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(data, size, &width, &height, &channels, 0), std::free);
  if (!pixels || channels < 1 || channels > 4)
    fail(ErrorCode::kCorrupt, "[data.picture] '{}': a damaged or truncated picture", origin);
  Picture picture{height, width, channels <= 2 ? 1 : 3, {}};
  const size_t count = static_cast<size_t>(width) * height;
  picture.pixels.resize(count * picture.channels);
  for (size_t i = 0; i < count; ++i) {
    std::copy_n(&pixels.get()[i * channels], picture.channels,
                &picture.pixels[i * picture.channels]);
  }
  return picture;
}

Picture read_picture(const std::filesystem::path& path) {
  const auto file = base::MappedFile::open(path);
  return decode_picture(file->bytes(), path.string());
}

Picture to_gray(Picture picture) {
  if (picture.channels == 1) return picture;
  const size_t count = picture.pixels.size() / 3;
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* rgb = &picture.pixels[3 * i];
    picture.pixels[i] =
        static_cast<uint8_t>((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16);
  }
  picture.pixels.resize(count);
  picture.channels = 1;
  return picture;
}

Picture to_rgb(Picture picture) {
  if (picture.channels == 3) return picture;
  const size_t count = picture.pixels.size();
  picture.pixels.resize(3 * count);
  for (size_t i = count; i-- > 0;)
    std::fill_n(&picture.pixels[3 * i], 3, uint8_t{picture.pixels[i]});
  picture.channels = 3;
  return picture;
}

FloatPicture to_float(const Picture& picture) {
  return {picture.height, picture.width, picture.channels,
          std::vector<float>(picture.pixels.begin(), picture.pixels.end())};
}

FloatPicture resize_bilinear(const FloatPicture& in, int height, int width) {
  if (height == in.height && width == in.width) return in;
  FloatPicture out{height, width, in.channels, {}};
  out.pixels.resize(static_cast<size_t>(height) * width * in.channels);
  const std::vector<Tap> rows = bilinear_taps(in.height, height);
  const std::vector<Tap> cols = bilinear_taps(in.width, width);
  const size_t stride = static_cast<size_t>(in.width) * in.channels;
  std::vector<float> mixed(stride);  // the two rows of a tap, mixed
  float* to = out.pixels.data();
  for (const Tap& row : rows) {
    const float* low = &in.pixels[row.low * stride];
    const float* high = &in.pixels[row.high * stride];
    for (size_t i = 0; i < stride; ++i) mixed[i] = low[i] + (high[i] - low[i]) * row.weight;
    for (const Tap& col : cols) {
      for (int c = 0; c < in.channels; ++c) {
        const float a = mixed[col.low * in.channels + c], b = mixed[col.high * in.channels + c];
        *to++ = a + (b - a) * col.weight;
      }
    }
  }
  return out;
}

FloatPicture crop_or_pad(const FloatPicture& in, int top, int left, int height, int width,
                         float fill) {
  FloatPicture out{height, width, in.channels, {}};
  out.pixels.assign(static_cast<size_t>(height) * width * in.channels, fill);
  const int first = std::max(0, -left), last = std::min(width, in.width - left);
  if (first >= last) return out;
  for (int y = std::max(0, -top); y < std::min(height, in.height - top); ++y) {
    const size_t from = (static_cast<size_t>(y + top) * in.width + left + first) * in.channels;
    const size_t to = (static_cast<size_t>(y) * width + first) * in.channels;
    std::copy_n(&in.pixels[from], static_cast<size_t>(last - first) * in.channels, &out.pixels[to]);
  }
  return out;
}

}  // namespace packlight::data

#include "data/augment.h"

#include <cmath>

#include "base/fail.h"

namespace packlight::data {
namespace {

struct Move {
  bool flip = false;
  int64_t down = 0, across = 0;
};

Move draw(const Augment& augment, Random& random) {
  Move move;
  if (augment.flip > 0) move.flip = random.unit() < augment.flip;
  for (const int reach : {augment.shift, augment.crop_pad}) {
    if (reach == 0) continue;
    move.down += random.between(-reach, reach);
    move.across += random.between(-reach, reach);
  }
  return move;
}

}  // namespace

void check_augment(const Augment& augment) {
  if (!(augment.flip >= 0 && augment.flip <= 1)) {
    fail(ErrorCode::kInvalidArgument, "[data.augment] flip {} is no probability from 0 to 1",
         augment.flip);
  }
  for (const auto& [name, value] :
       {std::pair{"shift", augment.shift}, std::pair{"crop_pad", augment.crop_pad}}) {
    if (value < 0 || value > kMaxPictureSide) {
      fail(ErrorCode::kInvalidArgument, "[data.augment] {} {} is not from 0 to {} pixels", name,
           value, kMaxPictureSide);
    }
  }
}

void apply_augment(const Augment& augment, const PictureFormat& format, Random& random,
                   Array& picture) {
  if (!augment.any()) return;
  const bool planes = format.layout == Layout::kNchw;
  const auto channels = static_cast<int64_t>(format.black.size());
  if (picture.dtype != codec::DType::kF32 || picture.shape.size() != 3 ||
      picture.shape[planes ? 0 : 2] != channels) {
    fail(ErrorCode::kInvalidArgument, "[data.augment] {} {} is no picture of {} channels",
         codec::info(picture.dtype).name, shape_text(picture.shape), channels);
  }
  const Move move = draw(augment, random);
  if (!move.flip && move.down == 0 && move.across == 0) return;
  const int64_t h = picture.shape[planes ? 1 : 0], w = picture.shape[planes ? 2 : 1];
  const auto at = [&](int64_t c, int64_t y, int64_t x) {
    return planes ? (c * h + y) * w + x : (y * w + x) * channels + c;
  };
  Array moved = make_array(picture.dtype, picture.shape);
  const auto in = std::as_const(picture).f32();
  const auto out = moved.f32();
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t y = 0; y < h; ++y) {
      for (int64_t x = 0; x < w; ++x) {
        const int64_t from_y = y - move.down, shifted = x - move.across;
        const bool inside = from_y >= 0 && from_y < h && shifted >= 0 && shifted < w;
        out[at(c, y, x)] =
            inside ? in[at(c, from_y, move.flip ? w - 1 - shifted : shifted)] : format.black[c];
      }
    }
  }
  picture = std::move(moved);
}

}  // namespace packlight::data
